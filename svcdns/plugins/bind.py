"""`bind`: the addresses that a server block listens on.

The plugin handles no queries. The control process finds the addresses of network interfaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import BindAddresses, Settings


@dataclass(frozen=True, slots=True)
class Line:
    """One `bind` directive: the addresses and interface names to use, and those to leave out."""

    places: tuple[str, ...]
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """The `bind` directives of one block, which listens on the addresses of all of them."""

    lines: tuple[Line, ...]


def parse(block: Block) -> Options:
    """Returns the options of the block's `bind` directives. Raises CorefileError."""
    lines = []
    for directive in block.directives:
        places = tuple(word.text for word in arguments.arguments(directive, 1, arguments.UNBOUNDED))
        without: tuple[str, ...] = ()
        for line in arguments.body(directive):
            if line.name.text != "except":
                raise arguments.unknown_option(line, ("except",))
            without += tuple(word.text for word in arguments.arguments(line, 1, arguments.UNBOUNDED))
        lines.append(Line(places, without))
    return Options(tuple(lines))


class Bind(Plugin):
    """Sets the addresses that the block listens on. Handles no queries."""

    name = "bind"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the addresses that the block listens on."""
        return Settings(bind=tuple(BindAddresses(line.places, line.without) for line in options.lines))


PLUGIN: Final = Bind
