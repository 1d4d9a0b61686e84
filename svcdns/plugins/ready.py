"""`ready`: tells over HTTP whether queries are answered. Configures only; control serves it."""

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
    """The address to listen on, and whether a plugin that was ready once is checked again."""

    address: tuple[str, int] = DEFAULT
    continuously: bool = False


def parse(block: Block) -> Options:
    """The options of the block's last `ready` directive. Raises CorefileError."""
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
    """Configures only."""

    name = "ready"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """The page."""
        return Settings(page=HttpPage("/ready", options.address))


PLUGIN: Final = Ready
