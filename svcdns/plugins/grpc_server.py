"""`grpc_server`: limits of the block's `grpc://` listeners (DNS over gRPC). The plugin handles no queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import Settings, TransportLimits

_KNOWN: Final = ("max_streams", "max_connections")
MOST: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Options:
    """The most calls of a connection, and the most connections.

    A field is None if not configured, and 0 for no limit.
    """

    max_streams: int | None = None
    max_connections: int | None = None


def parse(block: Block) -> Options:
    """Returns the options of the block's `grpc_server` directives. Raises CorefileError."""
    found: dict[str, int] = {}
    for directive in block.directives:
        arguments.arguments(directive, 0, 0)
        for line in arguments.body(directive):
            arguments.no_body(line)
            name = line.name.text
            if name not in _KNOWN:
                raise arguments.unknown_option(line, _KNOWN)
            number = arguments.integer(arguments.argument(line), 0, MOST)
            if name in found:
                raise CorefileError(line.position, f"{name} already defined for this server block")
            found[name] = number
    return Options(**found)


class GrpcServer(Plugin):
    """Sets the limits of the block's `grpc://` listeners. Handles no queries."""

    name = "grpc_server"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the limits of the block's `grpc://` listeners."""
        return Settings(
            limits=TransportLimits("grpc", max_connections=options.max_connections, max_streams=options.max_streams)
        )


PLUGIN: Final = GrpcServer
