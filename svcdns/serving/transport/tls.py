"""DNS over TLS (RFC 7858): accepts TLS connections, and passes them to `tcp` when the handshake is complete.

Rules:

1. The handshake has the timeout of a first query.
2. The steps of handshakes run one at a time, and the clients take turns. The UDP sockets are read between two steps.
3. At most MAX_HANDSHAKES handshakes run. Above this limit, the client with the most handshakes loses its oldest one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from svcdns.eventloop.stream import SocketTransport
from svcdns.log_line import LogLine
from svcdns.plugin_api.query import Client
from svcdns.serving.metrics import SHED, ShedReason
from svcdns.serving.responder import Responder
from svcdns.serving.transport.connections import TcpConnections, client_key
from svcdns.serving.transport.tcp import TcpConnection
from svcdns.telemetry.counters import Counters, Family, MetricKind
from svcdns.tls.transport import HandshakeQueue, TlsTransport

MAX_HANDSHAKES: Final = 256
"""The most connections of one worker in their handshake."""

HANDSHAKES: Final = Family(
    "svcdns_tls_handshakes_total",
    MetricKind.COUNTER,
    "TLS handshakes with clients, by result: full, resumed, failed, refused.",
    ("server", "result"),
)

log = logging.getLogger("svcdns")


class TlsAcceptor:
    """Performs the handshakes of TLS connections. Refuses new connections while too many are open."""

    def __init__(self, counters: Counters, connections: TcpConnections, most: int = MAX_HANDSHAKES) -> None:
        """Accepted connections are added to `connections`. At most `most` handshakes run at the same time."""
        self._counters, self._connections, self._most = counters, connections, most
        self._handshakes = HandshakeQueue()

    def accept(
        self,
        responder: Responder,
        context: ssl.SSLContext,
        sock: socket.socket,
        address: Any,
        proxied: Client | None = None,
        connection: Callable[[Any], asyncio.Protocol] | None = None,
    ) -> None:
        """Begins the handshake of a connection that has just been accepted. `address` is the peer's address.

        `proxied` is the client that a proxy has named in a PROXY header, or None. `connection` returns the protocol
        of the connection after the handshake, by default that of DNS over TLS.
        The argument of `connection` is the `ssl.SSLObject`.

        If too many connections or handshakes are open, closes this connection, or one of a client that has more.
        """
        connections, server, timeouts = self._connections, responder.listener.server, responder.listener.timeouts
        client = client_key(address[0] if proxied is None else proxied.address)
        if not self._admit(server, client):
            self._counters.count(HANDSHAKES, server, "refused")
            sock.close()
            return

        def side(incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
            return context.wrap_bio(incoming, outgoing, server_side=True)

        def established() -> asyncio.Protocol:
            connections.handshaking.discard(transport)
            secured = transport.get_extra_info("ssl_object")
            self._counters.count(HANDSHAKES, server, "resumed" if secured.session_reused else "full")
            return (
                connection(secured) if connection else TcpConnection(responder, connections, timeouts, proxied=proxied)
            )

        def failed(error: Exception) -> None:
            connections.handshaking.discard(transport)
            self._counters.count(HANDSHAKES, server, "failed")
            log.debug(LogLine("a TLS handshake failed", server=server, error=error))

        transport = TlsTransport(side, established, failed, self._handshakes, timeouts.read, client, server_side=True)
        connections.handshaking.add(transport, client)
        SocketTransport(asyncio.get_running_loop(), sock, transport)

    def _admit(self, server: str, client: bytes) -> bool:
        """Returns True if a client may begin a handshake. Ends a handshake of another client if too many run."""
        handshaking = self._connections.handshaking
        if len(handshaking) >= self._most:
            most = handshaking.most()
            if len(most) <= handshaking.of(client) + 1:
                self._counters.count(SHED, server, ShedReason.HANDSHAKES)
                return False
            oldest = next(iter(most))
            self._counters.count(SHED, server, ShedReason.HANDSHAKES)
            oldest.abort()
            handshaking.discard(oldest)
        return self._connections.admit(client)
