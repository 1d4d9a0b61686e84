"""`quic`: limits of the block's `quic://` listeners (DNS over QUIC). The plugin handles no queries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import Settings, TransportLimits

OWN: Final = ("max_streams", "worker_pool_size")
MOST: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Options:
    """The most streams of a connection, and the most queries of a listener at the same time.

    A field is None if not configured.
    """

    max_streams: int | None = None
    worker_pool_size: int | None = None


def parse(block: Block) -> Options:
    """Returns the options of the block's `quic` directives. Raises CorefileError."""
    options = Options()
    for directive in block.directives:
        arguments.arguments(directive, 0, 0)
        for line in arguments.body(directive):
            arguments.no_body(line)
            name = line.name.text
            if name not in OWN:
                raise arguments.unknown_option(line, OWN)
            if getattr(options, name) is not None:
                raise CorefileError(line.position, f"{name} already defined for this server block")
            options = replace(options, **{name: arguments.integer(arguments.argument(line), 1, MOST)})
    return options


class Quic(Plugin):
    """Sets the limits of the block's `quic://` listeners. Handles no queries."""

    name = "quic"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the limits of the block's `quic://` listeners."""
        return Settings(
            limits=TransportLimits("quic", max_streams=options.max_streams, worker_pool_size=options.worker_pool_size)
        )


PLUGIN: Final = Quic
