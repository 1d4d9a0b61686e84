"""`health`: an HTTP page that shows whether the process is alive.

The plugin handles no queries. The control process serves the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import HttpPage, Settings

DEFAULT: Final = ("", 8080)


@dataclass(frozen=True, slots=True)
class Options:
    """The address of the page /health, and the lame-duck time: the seconds for which DNS is served after a request to
    stop.
    """

    address: tuple[str, int] = DEFAULT
    lameduck: float = 0.0


def parse(block: Block) -> Options:
    """Returns the options of the block's last `health` directive. Raises CorefileError."""
    options = Options()
    for directive in block.directives:
        words = arguments.arguments(directive, 0, 1)
        lameduck = 0.0
        for line in arguments.body(directive):
            if line.name.text != "lameduck":
                raise arguments.unknown_option(line, ("lameduck",))
            word = arguments.argument(line)
            lameduck = arguments.duration(word)
            if lameduck < 0:
                raise CorefileError(word.position, f"'{word.text}' is negative; a duration of at least 0 was expected")
        options = Options(arguments.host_port(words[0]) if words else DEFAULT, lameduck)
    return options


class Health(Plugin):
    """Sets the address of the page /health and the lame-duck time. Handles no queries."""

    name = "health"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the address of the page /health and the server's lame-duck time."""
        return Settings(lameduck=options.lameduck, page=HttpPage("/health", options.address))


PLUGIN: Final = Health
