"""`root`: the folder that relative paths of other plugins start from.

The plugin handles no queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import Settings


@dataclass(frozen=True, slots=True)
class Options:
    """The folder that relative paths start from, as written in the Corefile."""

    path: str


def parse(block: Block) -> Options:
    """Returns the options of the block's last `root` directive. Raises CorefileError."""
    for directive in block.directives:
        arguments.no_body(directive)
        path = arguments.argument(directive).text
    return Options(path)


class Root(Plugin):
    """Sets the folder that relative paths of the block start from. Handles no queries."""

    name = "root"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the folder that relative paths of the block start from."""
        return Settings(root=options.path)


PLUGIN: Final = Root
