"""The listeners of a worker for encrypted transports, in this process, and clients for HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from time import monotonic
from typing import Any

import dns.message
import h2.config
import h2.connection
import h2.events
import msgspec

from svcdns.chain.routing import Listener, Route
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.settings import NO_LIMITS, TransportLimits
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.plugin_api.tracing import HeaderFields, Sampler
from svcdns.plugins import tls
from svcdns.process.cookie_secrets import private_page
from svcdns.process.shared_memory import ENCRYPTED_SLOT
from svcdns.serving.cookies import Cookies
from svcdns.serving.listeners import Listeners
from svcdns.serving.listening_sockets import SocketDescription
from svcdns.telemetry.counters import Counters
from svcdns.tls.material import Material
from svcdns.wire.codes import Type
from svcdns.wire.http2_frames import FrameFilter
from svcdns.wire.record import Record
from tests.support import world
from tests.support.certificates import Pair, authority, pair

PORT = 443
TIMEOUT = 10
MEDIA_TYPE = "application/dns-message"
A = Record(b"\1a\1b\0", Type.A, 300, b"\x0a\0\0\1")


class Served:
    """A worker's listener on one port of 127.0.0.1. The names below `slow.` are answered after `release` is set."""

    def __init__(
        self,
        transport: str = "https",
        *,
        secured: bool = True,
        limits: TransportLimits = NO_LIMITS,
        timeouts: Timeouts | None = None,
        reply: Callable[[Query], Answer] | None = None,
        client_auth: str = "nocert",
        keylog: str = "",
        sampler: Sampler | None = None,
    ) -> None:
        self.counters = Counters()
        self.listeners = Listeners(self.counters, monotonic, Cookies(private_page()))
        self.queries: list[Query] = []
        self.writers: list[asyncio.StreamWriter] = []
        """The connections of clients, which are closed at the end."""
        self.release = asyncio.Event()
        self._reply, self._client_auth, self._keylog = reply, client_auth, keylog
        self._transport, self._limits, self._timeouts = transport, limits, timeouts or Timeouts(60, 60, 60)
        self._security = "key" if secured else ""
        self._sampler = sampler
        self.headers: list[HeaderFields] = []
        """Of each traced query: the header fields of its trace."""
        self._sock = socket.socket()
        self._sock.bind(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]

    def start(self) -> None:
        """Serves the listener."""
        if self._security:
            self.certify(pair())
        self.swap()
        about = SocketDescription(1, ENCRYPTED_SLOT, "127.0.0.1", PORT, "tcp", 4, wildcard=False)
        self.listeners.sockets([(about, self._sock.detach())], [])
        self.listeners.read(frozenset({ENCRYPTED_SLOT}))

    def certify(self, one: Pair) -> None:
        """Gives the listener a certificate."""
        served = tls.ServerTls("c", Material(*one), self._client_auth, self._keylog, 1e10)
        self.listeners.certificates.take("key", msgspec.msgpack.encode(served))

    def swap(self) -> None:
        """Replaces the plugin chain, as a reload does."""
        listener = Listener("127.0.0.1", PORT, self._transport, self._timeouts, self._security, limits=self._limits)
        listener.routes[b"\0"] = Route(b"\0", ".", self._chain, counted=True, writer="test", sampler=self._sampler)
        listener.all_routes, listener.sampled = [*listener.routes.values()], self._sampler is not None
        self.listeners.swap({"only": listener})

    def _chain(self, query: Query) -> Answer:
        self.queries.append(query)
        if self._sampler is not None and self._sampler.chosen:
            self._sampler.chosen = False
            self.headers.append(self._sampler.headers)
        if self._reply is not None:
            return self._reply(query)
        return self._later(query) if query.key.endswith(b"\4slow\0") else Reply(answer=(A,), flags=query.reply_flags)

    async def _later(self, query: Query) -> Reply:
        await self.release.wait()
        return Reply(answer=(A,), flags=query.reply_flags)

    def counted(self, name: str, *labels: str) -> float:
        """Returns the value of a metric of the listener's server label."""
        return world.counted(self.counters).get((name, f"{self._transport}://127.0.0.1:{PORT}", *labels), 0.0)

    async def open(self, context: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Opens a connection, with TLS if `context` is not None."""
        name = None if context is None else "dns.test"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=name)
        self.writers.append(writer)
        return reader, writer

    async def connect(self, context: ssl.SSLContext | None = None) -> Http2Client:
        """Opens a connection with HTTP/2."""
        context = context or authority().client()
        context.set_alpn_protocols(["h2"])
        return Http2Client(*await self.open(context))

    async def expire_unfinished(self) -> None:
        """Waits until a part of a request has arrived, and ends its time."""
        found: list[Any] = []

        def arrived() -> bool:
            connections: Any = self.listeners.connections.open
            found[:] = [one for one in connections if one.unfinished]
            return bool(found)

        await happens(arrived)
        found[0]._expired()

    def end(self) -> None:
        """Closes the sockets and the connections."""
        for one in tuple(self.listeners.connections.open):
            one.shed("test")  # type: ignore[arg-type]
        self.listeners.connections.drain()
        self.listeners.sockets([], [1])


@contextlib.asynccontextmanager
async def served(**options: Any) -> AsyncIterator[Served]:
    """Serves one listener. The options are those of `Served`."""
    made = Served(**options)
    made.start()
    try:
        yield made
    finally:
        for writer in made.writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        made.end()
        await happens(lambda: made.listeners.connections.none)


async def happens(what: Callable[[], object]) -> None:
    """Waits until `what()` is true."""
    async with asyncio.timeout(TIMEOUT):
        while not what():
            await asyncio.sleep(0)


def packet(name: str = "a.b.", rtype: str = "A") -> bytes:
    """Returns a query with the id 0, as RFC 8484 §4.1 recommends."""
    return dns.message.make_query(name, rtype, id=0).to_wire()


def target(wire: bytes) -> str:
    """Returns the target of a GET request with a query."""
    return "/dns-query?dns=" + base64.urlsafe_b64encode(wire).rstrip(b"=").decode()


class Http2Client:
    """A client with one HTTP/2 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.http.config.validate_outbound_headers = False
        self.responses: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.finished: set[int] = set()
        self.reset: dict[int, int] = {}
        self.goodbye: int | None = None
        """The error code of GOAWAY; None if it has not come."""
        self.acknowledges = True
        self._filter = FrameFilter(1 << 20, 1 << 20)
        self.http.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Sends what waits."""
        self.writer.write(self.http.data_to_send())

    def send(
        self, wire: bytes | None = None, *, method: str = "POST", path: str = "/dns-query", ends: bool = True,
        more: Sequence[tuple[str, str]] = (),
    ) -> int:  # fmt: skip
        """Sends a request, and returns its stream."""
        stream = self.http.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":authority", "dns.test"), (":path", path), *more]
        self.http.send_headers(stream, head, end_stream=wire is None and ends)
        if wire is not None:
            self.http.send_data(stream, wire, end_stream=ends)
        self.flush()
        return stream

    async def receive(self) -> bool:
        """Reads once. Returns False if the server has closed the connection."""
        async with asyncio.timeout(TIMEOUT):
            try:
                data = await self.reader.read(65536)
            except ConnectionError:
                return False
        if not data:
            return False
        data = self._filter.feed(data)
        if self._filter.goaway is not None:
            self.goodbye = self._filter.goaway.error
        for event in self.http.receive_data(data):
            match event:
                case h2.events.ResponseReceived():
                    self.responses[event.stream_id] = {str(name): str(value) for name, value in event.headers}
                case h2.events.TrailersReceived():
                    self.responses[event.stream_id] |= {str(name): str(value) for name, value in event.headers}
                case h2.events.DataReceived():
                    self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                    if self.acknowledges:
                        self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded():
                    self.finished.add(event.stream_id)
                case h2.events.StreamReset():
                    self.reset[event.stream_id] = int(event.error_code)
        self.flush()
        return True

    async def response(self, stream: int) -> tuple[dict[str, str], bytes]:
        """Returns the header fields and the body of a response."""
        while stream not in self.finished and await self.receive():
            pass
        assert stream in self.finished
        return self.responses[stream], self.bodies.get(stream, b"")

    async def reply(self, wire: bytes) -> dns.message.Message:
        """Sends a query, and returns the reply."""
        return dns.message.from_wire((await self.response(self.send(wire)))[1])

    async def closed(self) -> bool:
        """Waits until the server has closed the connection."""
        while await self.receive():
            pass
        return True
