"""DNS over TLS (RFC 7858): once its handshake is done, a connection is a TCP connection like any other (`tcp`).

Certificates come from control and are kept by key; a new one is for new connections. Rules: the handshake has the
timeout of a first query; the steps of handshakes run one at a time, and sockets are read in between; connections in
their handshake count among those of TCP, and at most MAX_HANDSHAKES are, so that they leave room for others.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Collection
from typing import Final

from svcdns.errors import SvcdnsError
from svcdns.plugins import tls
from svcdns.serving.responder import Responder
from svcdns.serving.transport.tcp import TcpConnection, TcpConnections
from svcdns.telemetry.counters import Counters, Family, MetricKind
from svcdns.tls.contexts import server_context
from svcdns.tls.errors import TlsError
from svcdns.tls.transport import HandshakeQueue, TlsTransport

MAX_HANDSHAKES: Final = 256
"""Connections of one worker that may be in their handshake; further ones are closed at once."""

HANDSHAKES: Final = Family(
    "svcdns_tls_handshakes_total",
    MetricKind.COUNTER,
    "TLS handshakes with clients, by result: full, resumed, failed, refused.",
    ("server", "result"),
)

log = logging.getLogger("svcdns")


class NoCertificateError(SvcdnsError):
    """Control has not sent the certificate of a listener, or it cannot be served."""


class Certificates:
    """The certificates that a worker's TLS listeners serve, by key."""

    def __init__(self, counters: Counters, poll_sockets: Callable[[], object]) -> None:
        """`poll_sockets` reads the sockets; it is called between two pieces of work."""
        self._counters, self._poll_sockets = counters, poll_sockets
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._served: dict[str, tls.ServerTls] = {}

    def take(self, key: str, payload: bytes) -> None:
        """A certificate from control, for connections from now on. If it cannot be served, the one before stays."""
        served, before = tls.decode(payload), self._served.get(key)
        if before is None or before.material != served.material:
            try:
                self._contexts[key] = server_context(served.material, served.verify, served.keylog, self._poll_sockets)
            except (TlsError, OSError) as error:
                log.error("the certificate %s cannot be served: %s", served.certificate, error)
                return
        self._served[key] = served
        self._show()

    def check(self, key: str) -> None:
        """Raises NoCertificateError where there is no certificate of that key."""
        if key not in self._contexts:
            raise NoCertificateError("the certificate of a tls:// listener was not received, or cannot be served")

    def context(self, key: str) -> ssl.SSLContext:
        """The context for new connections."""
        return self._contexts[key]

    def keep(self, keys: Collection[str]) -> None:
        """Removes the certificates of all other keys."""
        for key in [key for key in self._served if key not in keys]:
            del self._served[key], self._contexts[key]
        self._show()

    def _show(self) -> None:
        counters = self._counters
        counters.clear(tls.EXPIRY)
        counters.clear(tls.REFUSED)
        for served in self._served.values():
            counters.set(counters.cell(tls.EXPIRY, served.certificate), served.expires)
            counters.set(counters.cell(tls.REFUSED, served.certificate), float(bool(served.refused)))


class TlsAcceptor:
    """Accepts TLS connections."""

    def __init__(self, counters: Counters, connections: TcpConnections, most: int = MAX_HANDSHAKES) -> None:
        """They become `connections`; at most `most` are in their handshake."""
        self._counters, self._connections, self._most = counters, connections, most
        self._handshakes = HandshakeQueue()

    def accept(self, responder: Responder, context: ssl.SSLContext) -> asyncio.BaseProtocol:
        """The protocol of a connection that has just been accepted."""
        connections, server, timeouts = self._connections, responder.listener.server, responder.listener.timeouts
        if connections.full or len(connections.handshaking) >= self._most:
            self._counters.count(HANDSHAKES, server, "refused")
            return Refused()

        def side(incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
            return context.wrap_bio(incoming, outgoing, server_side=True)

        def established() -> asyncio.Protocol:
            connections.handshaking.discard(transport)
            resumed = transport.get_extra_info("ssl_object").session_reused
            self._counters.count(HANDSHAKES, server, "resumed" if resumed else "full")
            return TcpConnection(responder, connections, timeouts)

        def failed(error: Exception) -> None:
            connections.handshaking.discard(transport)
            self._counters.count(HANDSHAKES, server, "failed")
            log.debug("TLS handshake on %s failed: %s", server, error)

        transport = TlsTransport(side, established, failed, self._handshakes, timeouts.read)
        connections.handshaking.add(transport)
        return transport


class Refused(asyncio.Protocol):
    """A connection that is closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Closes it."""
        assert isinstance(transport, asyncio.Transport)
        transport.abort()
