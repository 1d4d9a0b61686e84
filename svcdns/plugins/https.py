"""`https`: limits of the block's `https://` listeners (DNS over HTTPS). The plugin handles no queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import Settings, TransportLimits

OWN: Final = ("max_connections",)
MOST: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Options:
    """The most connections of a listener: None if not configured, and 0 for no limit."""

    max_connections: int | None = None


def parse(block: Block) -> Options:
    """Returns the options of the block's `https` directives. Raises CorefileError."""
    found: int | None = None
    for directive in block.directives:
        arguments.arguments(directive, 0, 0)
        for line in arguments.body(directive):
            arguments.no_body(line)
            if line.name.text not in OWN:
                raise arguments.unknown_option(line, OWN)
            if found is not None:
                raise CorefileError(line.position, "max_connections already defined for this server block")
            found = arguments.integer(arguments.argument(line), 0, MOST)
    return Options(found)


class Https(Plugin):
    """Sets the limits of the block's `https://` listeners. Handles no queries."""

    name = "https"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the limits of the block's `https://` listeners."""
        return Settings(limits=TransportLimits("https", max_connections=options.max_connections))


PLUGIN: Final = Https
