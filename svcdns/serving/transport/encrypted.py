"""What the transports `https`, `https3`, `quic` and `grpc` have in common, and the modules that implement them.

Only the worker for encrypted transports uses this module (docs/architecture.md#processes). A transport decodes queries
from its connections, passes them to an `Endpoint`, and encodes the replies. A transport over TCP is a
`StreamTransport`, and one over UDP a `DatagramTransport`.
"""

from __future__ import annotations

import importlib
import ssl
from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

from svcdns.corefile.transports import MODULES
from svcdns.plugin_api.query import Client
from svcdns.plugin_api.settings import TransportLimits
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.plugin_api.tracing import HeaderFields
from svcdns.serving.responder import Responder
from svcdns.serving.transport.certificates import Certificates
from svcdns.serving.transport.connections import TcpConnections
from svcdns.serving.zone_stream import Outlet
from svcdns.telemetry.counters import Counters
from svcdns.tls.material import Material


class Endpoint:
    """One listener over one address family, for its transport. Settings and certificate are always the present ones."""

    def __init__(
        self, responder: Responder, connections: TcpConnections, certificates: Certificates, alpn: tuple[str, ...] = ()
    ) -> None:
        """`responder` answers the queries. `alpn` are the protocols that the transport offers in TLS (RFC 7301)."""
        self.responder, self.connections, self._certificates, self._alpn = responder, connections, certificates, alpn
        self.counters: Counters = responder.metrics.counters

    @property
    def server(self) -> str:
        """Returns the server label of the metrics, such as `https://.:443`."""
        return self.responder.listener.server

    @property
    def timeouts(self) -> Timeouts:
        """Returns the time limits of connections."""
        return self.responder.listener.timeouts

    @property
    def limits(self) -> TransportLimits:
        """Returns the limits that the Corefile configures."""
        return self.responder.listener.limits

    @property
    def secured(self) -> bool:
        """Returns True if the listener has a certificate, and False if it serves clear text."""
        return bool(self.responder.listener.security)

    def context(self) -> ssl.SSLContext:
        """Returns the TLS context for new connections. Call it only if the listener is `secured`."""
        return self._certificates.context(self.responder.listener.security, self._alpn)

    def material(self) -> Material:
        """Returns the certificate, the key and the authorities of the listener, as PEM."""
        return self._certificates.served(self.responder.listener.security).material

    @property
    def keylog(self) -> str:
        """Returns the path of the file for the secrets of connections, or an empty text."""
        return self._certificates.served(self.responder.listener.security).keylog

    def verify(self) -> ssl.VerifyMode:
        """Returns whether clients may or must present a certificate."""
        return self._certificates.served(self.responder.listener.security).verify

    def client(self, peer: Any, local: Any, protocol: str) -> Client:
        """Returns the client of a connection. `peer` and `local` are socket addresses."""
        host, own = (str(address[0]).partition("%")[0] for address in (peer, local))
        return Client(host, peer[1], own, local[1], protocol, 2 if ":" in host else 1)

    def answer(
        self,
        packet: bytes,
        client: Client,
        send: Callable[[bytes], None],
        outlet: Outlet | None = None,
        headers: HeaderFields = (),
    ) -> None:
        """Answers a query. `packet` and the reply are DNS messages without a length prefix.

        Calls `send` exactly once with the reply, before this call returns or later. The reply is empty if a plugin
        drops the query. If a reply has several messages, `outlet` sends all but the last one. `headers` are those of
        the HTTP request that belong to a trace.
        """
        started, responder = perf_counter(), self.responder
        if headers and responder.sampling is not None:
            responder.sampling.headers = headers
        wire = responder.lookup(packet, client, started)
        if wire:
            send(wire)
        else:
            responder.answer(packet, client, send, started, outlet)


class StreamTransport(Protocol):
    """A transport over TCP, usually with TLS."""

    alpn: tuple[str, ...]
    """The protocols that are offered in the TLS handshake (RFC 7301)."""
    default_connections: int
    """The most connections of a listener if the Corefile has no limit."""

    def connection(self, endpoint: Endpoint, proxied: Client | None, tls: Any) -> Any:
        """Returns the protocol of a connection (`stream_connection.StreamConnection`), after the TLS handshake.

        `proxied` is the client that a proxy has named in a PROXY header, or None. `tls` is the connection's
        `ssl.SSLObject`, or None for a listener without TLS.
        """
        ...


class DatagramServer(Protocol):
    """The connections of one UDP socket."""

    responder: Responder

    def drain(self) -> None:
        """Reads some datagrams. Called while the socket is readable."""
        ...

    def renew(self) -> None:
        """Uses the present certificate for new connections."""
        ...

    def finish(self) -> None:
        """Refuses new connections, and closes each connection when its queries are answered."""
        ...

    @property
    def idle(self) -> bool:
        """Returns True if no connection is left."""
        ...

    def close(self) -> None:
        """Closes all connections, and stops all timers. The caller closes the socket."""
        ...


class DatagramTransport(Protocol):
    """A transport over UDP."""

    def serve(self, endpoint: Endpoint, sock: Any) -> DatagramServer:
        """Returns the server of a socket, which the caller drains and closes."""
        ...


def load(transport: str) -> Any:
    """Imports a transport's module, and returns its `StreamTransport` or `DatagramTransport`."""
    return importlib.import_module(MODULES[transport]).TRANSPORT
