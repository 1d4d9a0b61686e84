"""`traffic`: samples of queries, for the top names and clients and the waste of search paths (docs/plugins/traffic.md).

The readers of the listeners' UDP sockets take the samples, and the control process counts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import Settings

OPTIONS: Final = ("pods",)


@dataclass(frozen=True, slots=True)
class Options:
    """If `pods` is true, control watches Pods, to name clients by Pod and namespace."""

    pods: bool = False


def parse(block: Block) -> Options:
    """Returns the options of the block's `traffic` directive. Raises CorefileError."""
    directive = arguments.once(block.directives)
    arguments.arguments(directive, 0, 0)
    pods = False
    for line in arguments.body(directive):
        if line.name.text not in OPTIONS:
            raise arguments.unknown_option(line, OPTIONS)
        arguments.no_body(line)
        arguments.arguments(line, 0, 0)
        pods = True
    return Options(pods)


class Traffic(Plugin):
    """Turns on the samples of the block's listeners. Handles no queries."""

    name = "traffic"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings for the listeners of the block, and for the control process."""
        return Settings(records_traffic=True, names_pods=options.pods)


PLUGIN: Final = Traffic
