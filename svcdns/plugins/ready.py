"""`ready`: an HTTP page that shows whether queries are answered.

The plugin handles no queries. The control process serves the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import HttpPage, Settings

DEFAULT: Final = ("", 8181)
MODES: Final = ("until-ready", "continuously")


@dataclass(frozen=True, slots=True)
class Options:
    """The address of the page /ready, and whether a plugin is checked again after it was ready once."""

    address: tuple[str, int] = DEFAULT
    continuously: bool = False


def parse(block: Block) -> Options:
    """Returns the options of the block's last `ready` directive. Raises CorefileError."""
    options = Options()
    for directive in block.directives:
        words = arguments.arguments(directive, 0, 1)
        continuously = False
        for line in arguments.body(directive):
            if line.name.text != "monitor":
                raise arguments.unknown_option(line, ("monitor",))
            continuously = arguments.one_of(arguments.argument(line), MODES) == "continuously"
        options = Options(arguments.host_port(words[0]) if words else DEFAULT, continuously)
    return options


class Ready(Plugin):
    """Sets the address of the page /ready. Handles no queries."""

    name = "ready"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the address of the page /ready."""
        return Settings(page=HttpPage("/ready", options.address, "plugin/ready: Failed to start handler"))


PLUGIN: Final = Ready
