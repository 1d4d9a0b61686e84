"""Fuzzing targets for streams of messages. The messages must not depend on how the network cuts the stream."""

from __future__ import annotations

import asyncio
import contextlib
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
    """Returns the pieces in which a stream arrives, and the whole stream.

    The first octet of the input is the number of pieces. The next octets are the sizes of all pieces except the last
    piece.
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
    """Returns the complete messages of a DNS stream, and the octets after the last message (RFC 1035 §4.2.2)."""
    out, at = [], 0
    while len(stream) >= at + 2:
        end = at + 2 + int.from_bytes(stream[at : at + 2], "big")
        if len(stream) < end:
            break
        out.append(stream[at + 2 : end])
        at = end
    return out, stream[at:]


def run_framing(data: bytes) -> None:
    """Reads DNS messages, and frames between svcdns's processes, from a stream that arrives in pieces."""
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
    """Answers each query with the query's own octets. The first octet chooses between an immediate reply, a later reply
    and none.
    """

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.waiting: deque[tuple[Callable[[bytes], None], bytes]] = deque()

    def lookup(self, packet: bytes, _client: Client, _started: float) -> bytes | None:
        if packet[:1] == b"\1":
            self.asked.append(packet)
            return packet
        return None

    lookup_entry = lookup

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
    """A transport without a socket. It records what is written, and whether reading is paused."""

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


def _run_scheduled() -> None:
    """Runs the callbacks that the event loop has scheduled for now."""
    loop = _loop()
    loop.call_soon(loop.stop)
    loop.run_forever()


def _in_loop(call: Callable[[], None]) -> None:
    """Calls a function inside the event loop. Exceptions of the function pass through."""

    async def run() -> None:
        call()

    _loop().run_until_complete(run())


def run_tcp(data: bytes) -> None:
    """Reads a client's stream over TCP. The same queries must be answered in the same order, however
    the stream is cut.
    """
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
            await _send_waiting_reply(responder)
    for _ in range(2 * len(expected) + 2):  # a connection may have to wait for its turn after each query
        await _send_waiting_reply(responder)
    assert transport.closed or transport.paused or responder.asked == expected
    assert responder.asked == expected[: len(responder.asked)]
    assert transport.written == b"".join(framed(one) for one in responder.asked if one[:1] not in (b"", b"\2"))
    if not connection.eof_received():
        transport.close()
    connection.connection_lost(None)
    assert not connections.open


async def _send_waiting_reply(responder: _Responder) -> None:
    """Sends the reply that is waiting, if there is one, and lets the connection continue."""
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
        self.to_client = ssl.MemoryBIO()
        self.raw = _Transport()
        side = functools.partial(_contexts()[0].wrap_bio, server_side=True)
        self.transport = TlsTransport(
            side, lambda: self.application, self.failures.append, HandshakeQueue(), 60.0, server_side=True
        )
        _in_loop(lambda: self.transport.connection_made(self.raw))

    def receive(self, data: bytes) -> None:
        """Passes octets to the server until the server has closed the connection."""
        for at in range(0, len(data), CHUNK):
            part = data[at : at + CHUNK]
            if self.raw.closed:
                return
            self.transport.get_buffer(-1)[: len(part)] = part
            _in_loop(functools.partial(self.transport.buffer_updated, len(part)))
            _run_scheduled()

    def end(self) -> None:
        _in_loop(lambda: self.transport.connection_lost(None))


def run_tls(data: bytes) -> None:
    """Passes a client's octets to a TLS listener.

    The first octet of the input chooses: 0 sends the input instead of a handshake; 1 sends a handshake with one changed
    octet; other values send the input after a handshake.
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
            _run_scheduled()
        assert sent.startswith(server.application.received)
        assert data[0] & 1 or server.application.received == sent
        if data[0] & 1:
            assert server.raw.closed or server.application.received == b""
    server.end()
    assert len(server.failures) <= 1


def _handshake(
    server: _TlsServer, change: tuple[int, bytes] | None = None
) -> tuple[ssl.SSLObject | None, ssl.MemoryBIO]:
    incoming, outgoing = server.to_client, ssl.MemoryBIO()
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


def run_tls_session(data: bytes) -> None:
    """Runs a TLS connection after its handshake. Each octet of the input is a step of the client, the network or the
    application.

    Whatever the order of the steps is, each side must read what the other side wrote.
    """
    session = _Session()
    for octet in data:
        if session.server.raw.closed:
            break
        session.step(octet % len(_Session.STEPS), 1 + octet // len(_Session.STEPS))
    session.end()


class _Session:
    """A TLS connection with both of its sides, and the data that each side has written and read."""

    def __init__(self) -> None:
        self.server = _TlsServer()
        client, self.outgoing = _handshake(self.server)
        assert client is not None
        self.client = client
        self.pending = bytearray(self.outgoing.read())
        self.written = self.answered = self.read = b""
        self.ended = self.altered = False

    def step(self, number: int, count: int) -> None:
        """Takes one step. `count` is a size or a number of octets."""
        self.STEPS[number](self, count)
        _run_scheduled()
        assert self.altered or self.written.startswith(self.server.application.received)

    def client_writes(self, count: int) -> None:
        if not self.ended:
            data = bytes((count,)) * (count * 700)
            self.written += data
            self.client.write(data)

    def all_arrives(self, _count: int) -> None:
        """The server receives all octets that the client has sent."""
        self.some_arrives(1 << 20)

    def some_arrives(self, count: int) -> None:
        """The server receives some of the octets that the client has sent."""
        self.pending += self.outgoing.read()
        if not self.server.raw.paused:
            part, self.pending = self.pending[:count], self.pending[count:]
            self.server.receive(bytes(part))

    def octet_is_altered(self, count: int) -> None:
        """The network changes one of the octets that the client has sent."""
        self.pending += self.outgoing.read()
        if self.pending:
            self.pending[count % len(self.pending)] ^= count
            self.altered = True

    def application_writes(self, count: int) -> None:
        """The server's application writes data."""
        transport, data = self.server.transport, bytes((count,)) * (count * 900)
        if not transport.is_closing():
            self.answered += data
            _in_loop(functools.partial(transport.write if count % 2 else self._write_lines, data))

    def _write_lines(self, data: bytes) -> None:
        self.server.transport.writelines([data[:7], b"", data[7:]])

    def client_reads(self, _count: int) -> None:
        """The client receives and reads all data that the server has sent."""
        self.server.to_client.write(bytes(self.server.raw.written))
        self.server.raw.written.clear()
        with contextlib.suppress(ssl.SSLError):
            while data := self.client.read(1 << 16):
                self.read += data
        assert self.answered.startswith(self.read)

    def client_ends(self, _count: int) -> None:
        self.ended = True
        with contextlib.suppress(ssl.SSLError):
            self.client.unwrap()

    def reading_is_paused(self, count: int) -> None:
        """The application pauses or resumes reading."""
        transport = self.server.transport
        _in_loop(transport.resume_reading if count % 2 else transport.pause_reading)

    def socket_changes(self, count: int) -> None:
        """The socket's send buffer becomes full or empty, or the client's side of the connection ends."""
        transport = self.server.transport
        choice = count % 4
        if choice == 3:
            if not transport.eof_received():
                self.server.raw.close()
        else:
            (transport.pause_writing, transport.resume_writing, transport.get_write_buffer_size)[choice]()

    def application_closes(self, count: int) -> None:
        """The application closes or aborts the connection."""
        _in_loop(self.server.transport.close if count % 2 else self.server.transport.abort)

    STEPS: Final = (
        client_writes, all_arrives, some_arrives, application_writes, client_reads, reading_is_paused, client_ends,
        octet_is_altered, socket_changes, application_closes,
    )  # fmt: skip

    def end(self) -> None:
        """Delivers the remaining data, and compares the data written with the data read."""
        if not self.server.raw.closed:
            _in_loop(self.server.transport.resume_reading)
            self.all_arrives(0)
            received = -1
            while received < len(self.server.application.received):
                received = len(self.server.application.received)
                _run_scheduled()
            self.client_reads(0)
            assert self.altered or self.server.application.received == self.written
            assert self.ended or self.read == self.answered
        self.server.end()
        assert not self.server.failures


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


def _sessions() -> Iterator[bytes]:
    yield bytes((0, 1, 3, 4, 10, 1, 13, 4))
    yield bytes((250, 2, 12, 22, 122, 1, 253, 4, 6, 1))
    yield bytes((15, 0, 1, 5, 0, 25, 1, 5, 28, 18, 3, 4, 38))
    yield bytes((0, 7, 1))
    yield bytes((0, 1, 19))
    yield bytes((0, 1, 3, 9, 4))


TARGETS: Final[tuple[Any, ...]] = (
    Target("framing", run_framing, _streams, 200),
    Target("tcp", run_tcp, _streams, 300),
    Target("tls", run_tls, _tls, 200),
    Target("tls_session", run_tls_session, _sessions, 40),
)
