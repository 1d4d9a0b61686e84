"""`health`: tells over HTTP whether the process is alive. Configures only; control serves it."""

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
    """The address to listen on, and the seconds of lame duck: how long DNS is served after a stop was requested."""

    address: tuple[str, int] = DEFAULT
    lameduck: float = 0.0


def parse(block: Block) -> Options:
    """The options of the block's last `health` directive. Raises CorefileError."""
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
    """Configures only."""

    name = "health"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """The page, and the lame-duck time of the server."""
        return Settings(lameduck=options.lameduck, page=HttpPage("/health", options.address))


PLUGIN: Final = Health
