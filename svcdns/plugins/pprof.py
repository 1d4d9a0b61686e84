"""`pprof`: HTTP pages with profiles of all processes, for those who look for the cause of a high load.

The plugin handles no queries. The control process serves the pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import HttpPage, Settings

DEFAULT: Final = ("localhost", 6053)


@dataclass(frozen=True, slots=True)
class Options:
    """The address of the pages below /debug/pprof/."""

    address: tuple[str, int] = DEFAULT


def parse(block: Block) -> Options:
    """Returns the options of the block's `pprof` directive. Raises CorefileError.

    The option `block` is checked and has no effect: a Python process has no profile of blocking.
    """
    directive = arguments.once(block.directives)
    words = arguments.arguments(directive, 0, 1)
    for line in arguments.body(directive):
        if line.name.text != "block":
            raise arguments.unknown_option(line, ("block",))
        for rate in arguments.arguments(line, 0, 1):
            arguments.integer(rate, low=-(2**31))
    return Options(arguments.host_port(words[0]) if words else DEFAULT)


class Pprof(Plugin):
    """Sets the address of the pages below /debug/pprof/. Handles no queries."""

    name = "pprof"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the address of the pages."""
        return Settings(page=HttpPage("/debug/pprof/", options.address))


PLUGIN: Final = Pprof
