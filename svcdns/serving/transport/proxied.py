"""Clients behind a proxy that uses the PROXY protocol (plugin *proxyproto*).

Over TCP and TLS, the header comes before all other octets of a connection. Over UDP, each datagram has one. With
session tracking, datagrams without a header belong to the client of the latest header from the same address and port of
the proxy. Replies go to the proxy. Everything that depends on the client sees the address in the header.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from svcdns.eventloop.clock import Clock
from svcdns.eventloop.loop import add_drain, remove_drain
from svcdns.log_line import LogLine
from svcdns.plugin_api.query import Client
from svcdns.plugin_api.settings import ProxyPolicy, ProxyProtocol
from svcdns.serving.transport.connections import TcpConnections, client_key
from svcdns.telemetry.logging import LineLimit
from svcdns.wire.errors import FormError
from svcdns.wire.proxy_header import UDP, Endpoint, IncompleteHeaderError, ProxyHeader, read_proxy_header

MAX_HEADER: Final = 16 + 4096
"""The most octets that are read until a header is complete."""

log = logging.getLogger("svcdns")
_limit: Final = LineLimit()


class Proxied(NamedTuple):
    """The sender of a datagram from a proxy: the sender for the socket, and the client in the header."""

    sender: Any
    client: Client


class DatagramHeaders:
    """Reads the headers of the datagrams of one socket."""

    def __init__(self, protocol: ProxyProtocol, clock: Clock) -> None:
        """`clock` is the clock of the sessions."""
        self.protocol, self._clock = protocol, clock
        self._sessions: OrderedDict[Endpoint, tuple[float, Endpoint]] = OrderedDict()
        """By proxy: when the session ends, and the client. The least recently used comes first."""

    def read(self, packet: bytes, peer: Client) -> tuple[bytes, Client] | None:
        """Returns the datagram without its header, and its client; None if the datagram must be dropped.

        `peer` is the sender of the datagram.
        """
        policy = self.protocol.policy(peer.address)
        if policy is ProxyPolicy.SKIP:
            return packet, peer
        try:
            header = read_proxy_header(packet)
            self._check(header, policy)
        except IncompleteHeaderError:
            return packet, peer  # too short for a header, and for a query
        except FormError as error:
            text = "dropping invalid Proxy Protocol packet from %s: %s"
            _limit.log(log, logging.WARNING, text, f"{peer.address}:{peer.port}", error)
            return None
        if header is None:
            client = self._session(peer) if policy is ProxyPolicy.USE else None
            return packet, peer if client is None else _client(peer, client)
        payload = packet[header.size :]
        if policy is not ProxyPolicy.USE:
            return payload, peer
        assert header.source is not None
        if self.protocol.session_seconds:
            self._begin(peer, header.source)
            if not payload:
                return None
        return payload, _client(peer, header.source)

    @staticmethod
    def _check(header: ProxyHeader | None, policy: ProxyPolicy) -> None:
        if header is None:
            return
        if header.version != 2:
            raise FormError("unsupported Proxy Protocol version 1 (only v2 supported for UDP)")
        if header.transport not in UDP or header.source is None:
            raise FormError(f"PROXY Protocol header is not UDP type (transport protocol: {header.transport:#x})")
        if policy is ProxyPolicy.REJECT:
            raise FormError("connection rejected by Proxy Protocol connection policy")

    def _begin(self, peer: Client, source: Endpoint) -> None:
        sessions, key = self._sessions, (peer.address, peer.port)
        sessions[key] = self._clock() + self.protocol.session_seconds, source
        sessions.move_to_end(key)
        if len(sessions) > self.protocol.sessions:
            sessions.popitem(last=False)

    def _session(self, peer: Client) -> Endpoint | None:
        found = self._sessions.get((peer.address, peer.port))
        if found is None or found[0] <= self._clock():
            return None
        self._begin(peer, found[1])
        return found[1]


def _client(peer: Client, source: Endpoint) -> Client:
    """Returns the client of a datagram with the address `source` in its header; `peer` is the proxy."""
    family = 2 if ":" in source[0] else 1
    return Client(*source, peer.local_address, peer.local_port, peer.protocol, family)


class HeaderReader:
    """Reads the header of a TCP connection, which stays in the kernel until it is complete.

    Then the header is taken from the socket, and the connection is served as if it began there.
    """

    def __init__(
        self,
        protocol: ProxyProtocol,
        sock: socket.socket,
        address: Any,
        timeout: float,
        connections: TcpConnections,
        serve: Callable[[Client | None], None],
    ) -> None:
        """`address` is the peer of the accepted socket `sock`. `serve` gets the client in the header, or None.

        A connection without a complete header after `timeout` seconds is closed. Until then it counts among the
        connections in their handshake.
        """
        self._sock, self._timeout, self._connections, self._serve = sock, timeout, connections, serve
        self._host = address[0].partition("%")[0]
        self._policy = protocol.policy(self._host)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._seen = 0

    def start(self) -> None:
        """Begins to wait for the header. Connections of peers with the policy `skip` have none."""
        if self._policy is ProxyPolicy.SKIP:
            self._serve(None)
            return
        key = client_key(self._host)
        if not self._connections.admit(key):
            self._sock.close()
            return
        self._connections.handshaking.add(self, key)
        self._timer = self._loop.call_later(self._timeout, self.abort)
        add_drain(self._loop, self._sock, self._readable)

    def abort(self) -> None:
        """Closes the connection."""
        self._end()
        self._sock.close()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            remove_drain(self._loop, self._sock)
            self._connections.handshaking.discard(self)
            self._timer = None

    def _readable(self) -> None:
        try:
            data = self._sock.recv(MAX_HEADER, socket.MSG_PEEK)
            header = read_proxy_header(data)
            client = self._client_of(header)
        except BlockingIOError:
            return
        except IncompleteHeaderError:
            self._wait_for_more(len(data))
            return
        except (OSError, FormError) as error:
            log.debug(LogLine("a connection is closed", address=self._host, error=error))
            self.abort()
            return
        if header is not None:
            self._sock.recv(header.size)
        if self._seen:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        self._end()
        self._serve(client)

    def _wait_for_more(self, size: int) -> None:
        """Waits until the socket has more octets than `size`. Closes the connection if the client sends no more."""
        if size == self._seen or size >= MAX_HEADER:
            self.abort()
            return
        self._seen = size
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size + 1)

    def _client_of(self, header: ProxyHeader | None) -> Client | None:
        if header is None:
            return None
        if self._policy is ProxyPolicy.REJECT:
            raise FormError("its PROXY header is rejected")
        if self._policy is not ProxyPolicy.USE or header.source is None or header.destination is None:
            return None
        return Client(*header.source, *header.destination, "tcp", 2 if ":" in header.source[0] else 1)
