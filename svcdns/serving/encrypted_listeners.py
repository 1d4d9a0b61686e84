"""The connections and servers of the encrypted transports of a worker, with the limits of their listeners.

`Listeners` makes the object when a listener has such a transport. Only then are the modules of transports imported.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from svcdns.eventloop.stream import SocketTransport
from svcdns.plugin_api.query import Client
from svcdns.serving.metrics import SHED, ShedReason
from svcdns.serving.responder import Responder
from svcdns.serving.transport.certificates import Certificates
from svcdns.serving.transport.connections import TcpConnections, client_key
from svcdns.serving.transport.encrypted import DatagramServer, Endpoint, load
from svcdns.serving.transport.tls import TlsAcceptor


class EncryptedListeners:
    """Starts connections of transports over TCP, and the servers of transports over UDP."""

    def __init__(self, connections: TcpConnections, certificates: Certificates, acceptor: TlsAcceptor) -> None:
        """`connections` are those of the worker. `acceptor` performs TLS handshakes."""
        self._connections, self._certificates, self._acceptor = connections, certificates, acceptor
        self.servers: dict[DatagramServer, None] = {}
        certificates.on_change = self._renew

    def accept(self, responder: Responder, sock: socket.socket, address: Any, proxied: Client | None) -> None:
        """Starts a connection that has been accepted. `address` is that of the peer.

        If the listener has too many connections, closes one of the client that has the most, or this one.
        """
        transport = load(responder.listener.transport)
        endpoint = Endpoint(responder, self._connections, self._certificates, transport.alpn)
        client = client_key(address[0] if proxied is None else proxied.address)
        if not self._admit(responder, client, transport.default_connections):
            sock.close()
            return
        if endpoint.secured:

            def established(tls: Any) -> asyncio.Protocol:
                made: asyncio.Protocol = transport.connection(endpoint, proxied, tls)
                return made

            self._acceptor.accept(responder, endpoint.context(), sock, address, proxied, established)
        else:
            SocketTransport(self._connections.loop, sock, transport.connection(endpoint, proxied, None), address)

    def _admit(self, responder: Responder, client: bytes, default: int) -> bool:
        """Returns True if the listener may have another connection of a client. May close one of another client."""
        limit = responder.listener.limits.max_connections
        most = default if limit is None else limit
        own = [one for one in self._connections.open if one.responder.listener is responder.listener]
        if not most or len(own) < most:
            return True
        by_client: dict[bytes, int] = {}
        for one in own:
            by_client[one.client] = by_client.get(one.client, 0) + 1
        busiest = max(by_client, key=lambda key: by_client[key])
        if by_client[busiest] <= by_client.get(client, 0) + 1:
            responder.metrics.counters.count(SHED, responder.listener.server, ShedReason.CONNECTIONS)
            return False
        candidates = [one for one in own if one.client == busiest]
        chosen = min(candidates, key=lambda one: (not one.waits_for_query, one.deadline))
        chosen.shed(ShedReason.CONNECTIONS)
        self._connections.remove(chosen)
        return True

    def serve(self, responder: Responder, sock: socket.socket) -> DatagramServer:
        """Returns the server of a UDP socket."""
        transport = load(responder.listener.transport)
        endpoint = Endpoint(responder, self._connections, self._certificates)
        server: DatagramServer = transport.serve(endpoint, sock)
        self.servers[server] = None
        return server

    def end(self, server: DatagramServer) -> None:
        """Closes the server of a UDP socket."""
        server.close()
        self.servers.pop(server, None)

    def finish(self) -> None:
        """Closes the connections of all servers when their queries are answered."""
        for server in self.servers:
            server.finish()

    @property
    def idle(self) -> bool:
        """Returns True if no server has a connection."""
        return all(server.idle for server in self.servers)

    def _renew(self) -> None:
        for server in self.servers:
            server.renew()
