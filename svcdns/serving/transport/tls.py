"""DNS over TLS (RFC 7858): accepts TLS connections, and passes them to `tcp` when the handshake is complete.

Rules:

1. A new certificate is used for new connections only.
2. The handshake has the timeout of a first query.
3. The steps of handshakes run one at a time, and the clients take turns. The UDP sockets are read between two steps.
4. At most MAX_HANDSHAKES handshakes run. Above this limit, the client with the most handshakes loses its oldest one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Collection
from typing import Any, Final

from svcdns.errors import SvcdnsError
from svcdns.eventloop.stream import SocketTransport
from svcdns.plugin_api.query import Client
from svcdns.plugins import tls
from svcdns.serving.metrics import SHED, ShedReason
from svcdns.serving.responder import Responder
from svcdns.serving.transport.connections import TcpConnections, client_key
from svcdns.serving.transport.tcp import TcpConnection
from svcdns.telemetry.counters import Counters, Family, MetricKind
from svcdns.tls.contexts import server_context
from svcdns.tls.errors import TlsError
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


class NoCertificateError(SvcdnsError):
    """Raised if a listener has no usable certificate."""


class Certificates:
    """The certificates of a worker's TLS listeners. A certificate has the key that the control process gave it."""

    def __init__(self, counters: Counters, poll_sockets: Callable[[], object]) -> None:
        """`poll_sockets` reads the UDP sockets. The function is called between two pieces of long work."""
        self._counters, self._poll_sockets = counters, poll_sockets
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._served: dict[str, tls.ServerTls] = {}

    def take(self, key: str, payload: bytes) -> None:
        """Uses a certificate from the control process for new connections.

        If it cannot be used, the previous certificate stays in use.
        """
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
        """Raises NoCertificateError if there is no certificate with this key."""
        if key not in self._contexts:
            raise NoCertificateError("the certificate of a tls:// listener was not received, or cannot be served")

    def context(self, key: str) -> ssl.SSLContext:
        """Returns the TLS context for new connections, with the certificate under `key`.

        Call it only if `check(key)` raises no error.
        """
        return self._contexts[key]

    def keep(self, keys: Collection[str]) -> None:
        """Removes all certificates whose key is not in `keys`."""
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
    ) -> None:
        """Begins the handshake of a connection that has just been accepted. `address` is the peer's address.

        `proxied` is the client that a proxy has named in a PROXY header, or None.

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
            resumed = transport.get_extra_info("ssl_object").session_reused
            self._counters.count(HANDSHAKES, server, "resumed" if resumed else "full")
            return TcpConnection(responder, connections, timeouts, proxied=proxied)

        def failed(error: Exception) -> None:
            connections.handshaking.discard(transport)
            self._counters.count(HANDSHAKES, server, "failed")
            log.debug("TLS handshake on %s failed: %s", server, error)

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
