"""`status`: an HTML page that shows the state of the running server (docs/plugins/status.md).

The plugin handles no queries. The control process serves the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import HttpPage, Settings

DEFAULT: Final = ("localhost", 8053)


@dataclass(frozen=True, slots=True)
class Options:
    """The address of the page /status/."""

    address: tuple[str, int] = DEFAULT


def parse(block: Block) -> Options:
    """Returns the options of the block's `status` directive. Raises CorefileError."""
    directive = arguments.once(block.directives)
    arguments.no_body(directive)
    words = arguments.arguments(directive, 0, 1)
    return Options(arguments.host_port(words[0]) if words else DEFAULT)


class StatusPlugin(Plugin):
    """Sets the address of the page /status/. Handles no queries."""

    name = "status"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the address of the page."""
        return Settings(page=HttpPage("/status/", options.address, "plugin/status: there is no status page"))


PLUGIN: Final = StatusPlugin
