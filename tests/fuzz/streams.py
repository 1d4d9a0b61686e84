"""Targets for streams of messages: their framing must not depend on how the octets arrive."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from svcdns.plugin_api.query import Client
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.process import framing
from svcdns.process.framing import Deframer, FrameTooLargeError
from svcdns.serving.transport.connections import TcpConnections
from svcdns.serving.transport.tcp import BUFFER, TcpConnection
from svcdns.tls.contexts import client_context, server_context
from svcdns.tls.material import Material
from svcdns.tls.transport import CHUNK, HandshakeQueue, TlsTransport
from svcdns.wire.tcp_framing import framed, has_message, take_message
from tests.fuzz.target import Target
from tests.support.certificates import authority, pair


def pieces(data: bytes) -> tuple[list[bytes], bytes]:
    """Divides an input into the pieces of a stream as they arrive, and returns the pieces and the whole stream.

    The first octet has the number of pieces; the next octets have the size of each piece but the last.
    """
    if not data:
        return [], b""
    count = data[0] % 8
    sizes, stream = data[1 : 1 + count], data[1 + count :]
    out, at = [], 0
    for size in sizes:
        out.append(stream[at : at + size])
        at += size
    out.append(stream[at:])
    return [piece for piece in out if piece], stream


def messages_in(stream: bytes) -> tuple[list[bytes], bytes]:
    """Returns the complete messages of a DNS stream and the octets after them (RFC 1035 §4.2.2)."""
    out, at = [], 0
    while len(stream) >= at + 2:
        end = at + 2 + int.from_bytes(stream[at : at + 2], "big")
        if len(stream) < end:
            break
        out.append(stream[at + 2 : end])
        at = end
    return out, stream[at:]


def run_framing(data: bytes) -> None:
    """Takes messages from a stream as it arrives, and frames of the processes' own streams."""
    parts, stream = pieces(data)
    expected, rest = messages_in(stream)
    received, found = bytearray(), []
    for part in parts:
        received += part
        while has_message(received):
            message = take_message(received)
            assert message is not None
            found.append(message)
        assert take_message(received) is None
    assert found == expected
    assert received == rest
    assert b"".join(framed(one) for one in found) + rest == stream
    _check_frames(parts, stream)


def _check_frames(parts: list[bytes], stream: bytes) -> None:
    deframer, found = Deframer(), list[bytes]()
    try:
        for part in parts:
            deframer.feed(part)
            for content in deframer.contents():
                found.append(content)
    except FrameTooLargeError:
        at = sum(framing.LENGTH + len(one) for one in found)
        assert int.from_bytes(stream[at : at + framing.LENGTH], "big") > framing.MAX_FRAME
        return
    whole = b"".join(framing.framed(one) for one in found)
    assert stream.startswith(whole)
    left = stream[len(whole) :]
    assert len(left) < framing.LENGTH or len(left) < framing.LENGTH + int.from_bytes(left[: framing.LENGTH], "big")


class _Responder:
    """Answers each query with its own octets: at once, later, or not at all, as the first octet says."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.waiting: deque[tuple[Callable[[bytes], None], bytes]] = deque()

    def lookup(self, packet: bytes, _client: Client, _started: float) -> bytes | None:
        if packet[:1] == b"\1":
            self.asked.append(packet)
            return packet
        return None

    def answer(
        self, packet: bytes, _client: Client, reply: Callable[[bytes], None], _started: float, _stream: object
    ) -> None:
        self.asked.append(packet)
        if packet[:1] == b"\2":
            reply(b"")
        elif packet[:1] == b"\3":
            reply(packet)
        else:
            assert not self.waiting, "two queries of a connection are in the chain"
            self.waiting.append((reply, packet))


class _Transport(asyncio.Transport):
    """A transport without a socket: keeps what is written, and whether reading is paused."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 40000), "sockname": ("192.0.2.53", 53)})
        self.written = bytearray()
        self.paused = self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written += data

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is None or low is None or low <= high


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _settled() -> None:
    """Runs what is scheduled for now in the event loop."""
    loop = _loop()
    loop.call_soon(loop.stop)
    loop.run_forever()


def _in_loop(call: Callable[[], None]) -> None:
    """Calls a function inside the event loop. Raises what the function raises."""

    async def run() -> None:
        call()

    _loop().run_until_complete(run())


def run_tcp(data: bytes) -> None:
    """Reads a client's stream over TCP. The same queries are answered in the same order, however the octets arrive."""
    parts, stream = pieces(data)
    expected, _ = messages_in(stream)
    _loop().run_until_complete(_serve(parts, expected))


async def _serve(parts: list[bytes], expected: list[bytes]) -> None:
    responder, connections, transport = _Responder(), TcpConnections(), _Transport()
    connection = TcpConnection(responder, connections, Timeouts(60, 60, 60))  # type: ignore[arg-type]
    connection.connection_made(transport)
    for number, part in enumerate(parts):
        if transport.paused:
            break
        connection.data_received(part)
        assert len(connection._received) <= BUFFER + len(part)
        if number % 2:
            await _go_on(responder)
    for _ in range(2 * len(expected) + 2):  # a connection may have to wait for its turn after each query
        await _go_on(responder)
    assert transport.closed or transport.paused or responder.asked == expected
    assert responder.asked == expected[: len(responder.asked)]
    assert transport.written == b"".join(framed(one) for one in responder.asked if one[:1] not in (b"", b"\2"))
    if not connection.eof_received():
        transport.close()
    connection.connection_lost(None)
    assert not connections.open


async def _go_on(responder: _Responder) -> None:
    """Sends the reply that is waiting, if there is one, and lets the connection go on."""
    if responder.waiting:
        reply, packet = responder.waiting.popleft()
        reply(packet)
    await asyncio.sleep(0)


class _Application(asyncio.Protocol):
    """Keeps the data that TLS has decrypted."""

    def __init__(self) -> None:
        self.received = b""
        self.ended = False

    def data_received(self, data: bytes) -> None:
        assert len(data) <= CHUNK
        self.received += data

    def eof_received(self) -> bool:
        self.ended = True
        return False


@functools.cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return server_context(Material(*pair())), client_context(Material(authorities=authority().pem))


class _TlsServer:
    """The server's side of a TLS connection without a socket."""

    def __init__(self) -> None:
        self.application, self.failures = _Application(), list[Exception]()
        self.raw = _Transport()
        side = functools.partial(_contexts()[0].wrap_bio, server_side=True)
        self.transport = TlsTransport(side, lambda: self.application, self.failures.append, HandshakeQueue(), 60.0)
        _in_loop(lambda: self.transport.connection_made(self.raw))

    def receive(self, data: bytes) -> None:
        """Passes octets to the server as its socket would, until it has closed the connection."""
        for at in range(0, len(data), CHUNK):
            part = data[at : at + CHUNK]
            if self.raw.closed:
                return
            self.transport.get_buffer(-1)[: len(part)] = part
            _in_loop(functools.partial(self.transport.buffer_updated, len(part)))
            _settled()

    def end(self) -> None:
        """Ends the connection."""
        _in_loop(lambda: self.transport.connection_lost(None))


def run_tls(data: bytes) -> None:
    """Passes a client's octets to a TLS listener: in place of a handshake, or in place of records after a handshake.

    The first octet chooses: 0 in place of a handshake; 1 a handshake with a changed octet; otherwise after it.
    """
    if len(data) < 3:
        return
    server = _TlsServer()
    if data[0] == 0:
        server.receive(data[1:])
        assert not server.application.received
    elif data[0] == 1:
        _handshake(server, (data[1] << 8 | data[2], bytes(data[3:4] or b"\0")))
    else:
        client, outgoing = _handshake(server)
        assert client is not None
        sent = data[2:] * (1 + data[1] * 8)
        client.write(sent)
        records = bytearray(outgoing.read())
        if data[0] & 1:
            records[data[1] % len(records)] ^= 1 + data[0] // 2
        server.receive(bytes(records))
        for _ in range(2 + len(sent) // CHUNK):
            _settled()
        assert sent.startswith(server.application.received)
        assert data[0] & 1 or server.application.received == sent
        if data[0] & 1:
            assert server.raw.closed or server.application.received == b""
    server.end()
    assert len(server.failures) <= 1


def _handshake(
    server: _TlsServer, change: tuple[int, bytes] | None = None
) -> tuple[ssl.SSLObject | None, ssl.MemoryBIO]:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = _contexts()[1].wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    for _ in range(4):
        try:
            client.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            done = False
        except ssl.SSLError:
            return None, outgoing
        sent = bytearray(outgoing.read())
        if change is not None and sent:
            sent[change[0] % len(sent)] = change[1][0]
            change = None
        server.receive(bytes(sent))
        incoming.write(bytes(server.raw.written))
        server.raw.written.clear()
        if done:
            return client, outgoing
    return None, outgoing


def _streams() -> Iterator[bytes]:
    message = b"\0\0\1\0\0\1\0\0\0\0\0\0\3web\0\0\1\0\1"
    yield b"\0" + framed(message)
    yield b"\1\1" + framed(message) * 2
    yield b"\3\2\5\1" + framed(b"\1" + message) + framed(b"\2") + framed(b"\3" + message) + b"\0"
    yield b"\0\0\0\0\0\0\0\2ab"
    yield b"\2\4\1" + framing.framed(b"abc") + framing.framed(b"")
    yield b"\0\xff\xff\xff\xff"


def _tls() -> Iterator[bytes]:
    yield b"\0\x16\3\1\0\5\1\0\0\1\0"
    yield b"\0GET / HTTP/1.1\r\n\r\n"
    yield b"\1\0\4\7"
    yield b"\2\0" + framed(b"\0" * 20)
    yield b"\3\6" + framed(b"\0" * 20)
    yield b"\2\xff" + b"x" * 16


TARGETS: Final[tuple[Any, ...]] = (
    Target("framing", run_framing, _streams, 200),
    Target("tcp", run_tcp, _streams, 300),
    Target("tls", run_tls, _tls, 200),
)
