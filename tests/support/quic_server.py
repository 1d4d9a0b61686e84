"""A QUIC server on a loopback socket whose queries a test answers, and clients of it. Nothing waits for real time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self, cast

from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import QuicEvent, StreamDataReceived

from svcdns.plugin_api.query import Client
from svcdns.plugin_api.settings import TransportLimits
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.plugin_api.tracing import HeaderFields
from svcdns.serving.transport.encrypted import Endpoint
from svcdns.serving.transport.quic_connection import Kind
from svcdns.serving.transport.quic_server import QuicServer
from svcdns.serving.zone_stream import Outlet
from svcdns.telemetry.counters import Family
from tests.support.quic import client_side, material

Send = Callable[[bytes], None]
ROUNDS = 400


class Counts:
    """Counts as `Counters` does, in a dictionary."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, ...], int] = {}

    def count(self, family: Family, *labels: str, amount: int = 1) -> None:
        key = (family.name, *labels[1:])
        self.found[key] = self.found.get(key, 0) + amount


class FakeEndpoint:
    """An endpoint that answers each query with a function of the test, or keeps it in `held`."""

    def __init__(self) -> None:
        self.server, self.keylog = "quic://.:853", ""
        self.responder = SimpleNamespace(listener=SimpleNamespace(proxy=None), sampling=None)
        self.counters, self.limits = Counts(), TransportLimits("quic")
        self.timeouts = Timeouts(read=600.0, idle=600.0)
        self.connections = SimpleNamespace(closing_tls=False)
        self.queries: list[bytes] = []
        self.headers: list[HeaderFields] = []
        self.clients: list[Client] = []
        self.held: list[tuple[bytes, Send]] = []
        self.outlets: list[Outlet | None] = []
        self.reply: Callable[[bytes], bytes] | None = reply_to

    material = staticmethod(material)
    client = Endpoint.client

    def answer(
        self, packet: bytes, client: Client, send: Send, outlet: Outlet | None = None, headers: HeaderFields = ()
    ) -> None:
        self.queries.append(packet)
        self.headers.append(headers)
        self.clients.append(client)
        self.outlets.append(outlet)
        if self.reply is None:
            self.held.append((packet, send))
        else:
            send(self.reply(packet))


def query(name: bytes = b"\4name", ident: int = 0) -> bytes:
    """Returns a query for the address of a name of one label."""
    return ident.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + name + b"\0\0\1\0\1"


def reply_to(packet: bytes) -> bytes:
    return packet[:2] + b"\x81\x80" + packet[4:]


class Served:
    """A server, its endpoint, and its clients."""

    def __init__(self, kind: Kind, endpoint: FakeEndpoint | None = None) -> None:
        self.endpoint = endpoint or FakeEndpoint()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.address = self.socket.getsockname()
        self.server = QuicServer(cast("Any", self.endpoint), self.socket, kind)
        self.clients: list[QuicClient] = []

    @property
    def counts(self) -> dict[tuple[str, ...], int]:
        return self.endpoint.counters.found

    def client(self, alpn: str = "doq", host: str = "127.0.0.1") -> QuicClient:
        """Returns a client that has sent nothing. It binds to a loopback address."""
        client = QuicClient(self.address, alpn, host)
        self.clients.append(client)
        return client

    async def connected(self, alpn: str = "doq", host: str = "127.0.0.1") -> QuicClient:
        """Returns a client after its handshake."""
        client = self.client(alpn, host)
        await self.until(lambda: client.quic._handshake_confirmed)
        return client

    async def step(self) -> None:
        """Passes datagrams once in each direction."""
        for client in self.clients:
            client.send()
        self.server.drain()
        for _ in range(4):
            await asyncio.sleep(0)
        for client in self.clients:
            client.receive()

    async def until(self, done: Callable[[], object]) -> None:
        """Passes datagrams until `done` returns a true value."""
        for _ in range(ROUNDS):
            if done():
                return
            await self.step()
        raise AssertionError("nothing more happens")

    def close(self) -> None:
        self.server.close()
        self.socket.close()
        for client in self.clients:
            client.socket.close()


class QuicClient:
    """A client of aioquic on a socket of its own. Its clock runs ahead with each step."""

    def __init__(self, server: tuple[str, int], alpn: str, host: str) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.connect(server)
        self.socket.setblocking(False)
        self.quic = QuicConnection(configuration=client_side(alpn))
        self.server, self.now = server, 1.0
        self.quic.connect(server, self.now)
        self.events: list[QuicEvent] = []
        self.sent = self.received = 0
        self.prefix = b""
        """Octets before each datagram, such as a header of the PROXY protocol."""

    def send(self) -> None:
        self.now += 0.05
        timer = self.quic.get_timer()
        if timer is not None and self.now >= timer:
            self.quic.handle_timer(self.now)
        for datagram, _ in self.quic.datagrams_to_send(self.now):
            self.sent += len(datagram)
            self.socket.send(self.prefix + datagram)

    def receive(self) -> None:
        while True:
            try:
                datagram = self.socket.recv(4096)
            except (BlockingIOError, ConnectionRefusedError):
                break
            self.received += len(datagram)
            self.quic.receive_datagram(datagram, self.server, self.now)
        while (event := self.quic.next_event()) is not None:
            self.events.append(event)

    def ask(self, packet: bytes, *, ended: bool = True) -> int:
        """Sends a message on a new stream, and returns the stream."""
        stream = self.quic.get_next_available_stream_id()
        self.quic.send_stream_data(stream, len(packet).to_bytes(2, "big") + packet, ended)
        return stream

    def data(self, stream: int) -> bytes:
        """Returns what has arrived on a stream."""
        return b"".join(e.data for e in self.events if isinstance(e, StreamDataReceived) and e.stream_id == stream)

    def ended(self, stream: int) -> bool:
        """Returns True if the server has sent all of a stream."""
        return any(isinstance(e, StreamDataReceived) and e.stream_id == stream and e.end_stream for e in self.events)

    @property
    def closed_with(self) -> int | None:
        """Returns the error code with which the connection was closed, or None."""
        event = self.quic._close_event
        return None if event is None else event.error_code


class QuicUpstream:
    """An upstream that answers over QUIC. `endpoint.reply` makes its replies."""

    def __init__(self, kind: Kind) -> None:
        self._kind, self.endpoint = kind, FakeEndpoint()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]
        self._open()

    def _open(self) -> None:
        self.server = QuicServer(cast("Any", self.endpoint), self.socket, self._kind)

    def _drain(self) -> None:
        self.server.drain()

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self.socket, self._drain)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        asyncio.get_running_loop().remove_reader(self.socket)
        self.socket.close()

    @property
    def handshakes(self) -> int:
        """Returns the number of complete handshakes."""
        return self.endpoint.counters.found.get(("svcdns_tls_handshakes_total", "full"), 0)

    def hang_up(self) -> None:
        """Closes all connections. New connections are accepted."""
        self.server.close()
        self._open()
