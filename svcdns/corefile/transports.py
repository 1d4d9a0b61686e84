"""The transports of server blocks' keys: their sockets, and the process that serves them.

Source: docs/behaviour/corefile.md#server-block-keys.
"""

from __future__ import annotations

from typing import Final

PROTOCOLS: Final = {
    "dns": ("udp", "tcp"),
    "tls": ("tcp",),
    "quic": ("udp",),
    "grpc": ("tcp",),
    "https": ("tcp",),
    "https3": ("udp",),
}
"""The protocols to listen on for each transport of a server block's key."""

ENCRYPTED: Final = frozenset({"quic", "grpc", "https", "https3"})
"""The transports that a worker of its own serves (docs/architecture.md#processes)."""

OVER_QUIC: Final = frozenset({"quic", "https3"})
"""The transports whose TLS handshake is part of QUIC."""

TLS_REQUIRED: Final = frozenset({"tls", "quic", "https3"})
"""The transports that need a certificate. CoreDNS serves the other transports of ENCRYPTED also in clear text."""


MODULES: Final = {
    "https": "svcdns.serving.transport.https",
    "https3": "svcdns.serving.transport.https3",
    "quic": "svcdns.serving.transport.quic",
    "grpc": "svcdns.serving.transport.grpc",
}
"""The modules that serve the transports in ENCRYPTED."""


def share_port(first: str, second: str) -> bool:
    """Returns True if two transports can have the same port: one over UDP, and the other over TCP."""
    return first == second or not set(PROTOCOLS[first]) & set(PROTOCOLS[second])
