"""TLS between a socket and a protocol. The client is asyncio's TLS, or sends octets that are not TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import pairwise
from time import perf_counter

import pytest

from svcdns.eventloop.stream import SocketTransport
from svcdns.tls.contexts import client_context, server_context
from svcdns.tls.material import Material
from svcdns.tls.transport import CHUNK, HandshakeQueue, TlsTransport
from tests.support.certificates import authority, pair

SERVER = server_context(Material(*pair()))
CLIENT = client_context(Material(authorities=authority().pem))


class Echo(asyncio.Protocol):
    """A protocol that sends received data back, and records what happens on the connection."""

    def __init__(self) -> None:
        self.got, self.pieces, self.paused, self.lost = b"", 0, 0, False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert len(data) <= CHUNK
        self.got += data
        self.pieces += 1
        self.transport.write(data)

    def pause_writing(self) -> None:
        """Stops reading, because the client does not read."""
        self.paused += 1
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Continues reading when the transport can be written to again."""
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


class Place:
    """A TLS server that sends back what it receives, and keeps the results of its handshakes."""

    def __init__(self, timeout: float = 60.0) -> None:
        """Limits a handshake to `timeout` seconds."""
        self.timeout, self.handshakes = timeout, HandshakeQueue()
        self.made: list[Echo] = []
        self.failures: list[Exception] = []
        self.port = 0

    def accept(self) -> TlsTransport:
        def established() -> Echo:
            self.made.append(Echo())
            return self.made[-1]

        def side(incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
            return SERVER.wrap_bio(incoming, outgoing, server_side=True)

        return TlsTransport(side, established, self.failures.append, self.handshakes, self.timeout, server_side=True)


@contextlib.asynccontextmanager
async def echoing(timeout: float = 60.0) -> AsyncIterator[Place]:
    place = Place(timeout)
    server = await asyncio.get_running_loop().create_server(place.accept, "127.0.0.1", 0)
    place.port = server.sockets[0].getsockname()[1]
    try:
        yield place
    finally:
        server.close()
        await happens(lambda: all(one.lost for one in place.made))


async def happens(what: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0)


async def gone(writer: asyncio.StreamWriter) -> None:
    """Aborts the connection, and waits until it is closed."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def connected(place: Place) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connects a client with asyncio's own TLS."""
    context = ssl.create_default_context(cadata=authority().pem.decode())
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port, ssl=context, server_hostname="dns.test")
    try:
        yield reader, writer
    finally:
        await gone(writer)


async def test_data_is_sent_in_both_directions() -> None:
    """The data is longer than one TLS record, and arrives in small pieces."""
    text = bytes(range(256)) * 300
    async with echoing() as place, connected(place) as (reader, writer):
        writer.write(text)
        async with asyncio.timeout(10):
            assert await reader.readexactly(len(text)) == text
        (echo,) = place.made
        assert echo.pieces >= len(text) // CHUNK
        assert echo.transport.get_extra_info("peername")[0] == "127.0.0.1"
        assert echo.transport.get_extra_info("ssl_object").version() == "TLSv1.3"


async def test_a_record_is_passed_on_when_it_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data of one TLS record are passed on in the same iteration of the event loop."""
    again: list[TlsTransport] = []
    read_again = TlsTransport._read_again
    monkeypatch.setattr(TlsTransport, "_read_again", lambda self: (again.append(self), read_again(self)))
    async with echoing() as place, connected(place) as (reader, writer):
        async with asyncio.timeout(10):
            for text in (b"first", b"second"):
                again.clear()
                writer.write(text)
                assert await reader.readexactly(len(text)) == text
    assert not again


async def test_a_client_that_does_not_read_causes_back_pressure() -> None:
    """The server stops reading, so that the connection's memory is bounded."""
    text = b"x" * (8 << 20)
    async with echoing() as place, connected(place) as (reader, writer):
        assert isinstance(writer.transport, asyncio.Transport)
        writer.transport.pause_reading()
        reading = asyncio.ensure_future(reader.readexactly(len(text)))
        writer.write(text)
        await happens(lambda: place.made and place.made[0].paused)
        assert place.made[0].transport.get_write_buffer_size() < 1 << 20
        writer.transport.resume_reading()
        async with asyncio.timeout(30):
            assert await reading == text


async def test_close_notify_of_the_client_closes_the_connection() -> None:
    async with echoing() as place, connected(place) as (reader, writer):
        writer.write(b"last")
        async with asyncio.timeout(10):
            assert await reader.readexactly(4) == b"last"
        writer.close()
        await happens(lambda: place.made[0].lost)
        assert place.made[0].transport.is_closing()


async def test_closing_sends_close_notify() -> None:
    """The client receives everything that was written before the connection was closed."""
    async with echoing() as place, connected(place) as (reader, writer):
        await happens(lambda: place.made)
        place.made[0].transport.writelines([b"good", b"bye"])
        place.made[0].transport.close()
        place.made[0].transport.write(b"more")
        async with asyncio.timeout(10):
            assert await reader.read() == b"goodbye"
        writer.close()


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
        pytest.param(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", id="a broken greeting"),
        pytest.param(b"\x00" * 64, id="zeros"),
    ],
)
async def test_octets_that_are_no_tls_close_the_connection(octets: bytes) -> None:
    async with echoing() as place:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(octets)
        async with asyncio.timeout(10):
            await reader.read()
        await happens(lambda: place.failures)
        assert isinstance(place.failures[0], ssl.SSLError)
        await gone(writer)
        async with connected(place) as (reader, writer):
            writer.write(b"still here")
            async with asyncio.timeout(10):
                assert await reader.readexactly(10) == b"still here"


async def test_a_handshake_that_takes_too_long_fails() -> None:
    async with echoing(0.02) as place:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                assert await reader.read() == b""
        await happens(lambda: place.failures)
        assert isinstance(place.failures[0], TimeoutError)
        await gone(writer)
    async with echoing() as place:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(b"\x16\x03\x01")
        await writer.drain()
        await gone(writer)
        await happens(lambda: place.failures)
        assert isinstance(place.failures[0], ConnectionResetError)


async def test_broken_records_close_the_connection() -> None:
    async with echoing() as place, connected(place) as (reader, writer):
        await happens(lambda: place.made)
        os.write(writer.transport.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            async with asyncio.timeout(10):
                assert await reader.read() == b""
        await happens(lambda: place.made[0].lost)


async def test_other_work_runs_between_handshake_steps() -> None:
    handshakes, order = HandshakeQueue(), []
    for _ in range(20):
        handshakes.put(lambda: order.append("step"))
    async with asyncio.timeout(10):
        while order.count("step") < 20:
            await asyncio.sleep(0)
            order.append("other")
    assert all(two != ("step", "step") for two in pairwise(order))


async def test_clients_take_turns() -> None:
    """A client with many handshakes does not delay the handshake of another client."""
    handshakes, order = HandshakeQueue(), []

    def step(client: str) -> None:
        order.append(client)
        ends = perf_counter() + 0.0005
        while perf_counter() < ends:
            pass

    for _ in range(20):
        handshakes.put(lambda: step("many"), b"many")
    handshakes.put(lambda: step("one"), b"one")
    async with asyncio.timeout(10):
        while len(order) < 21:
            await asyncio.sleep(0)
    assert order.index("one") <= 2


async def test_a_new_client_ends_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a long step, the queue pauses. A step of a client that has no other step need not wait for the end of the
    pause, up to MAX_DEBT.
    """
    handshakes, order = HandshakeQueue(), list[str]()

    def long() -> None:
        order.append("long")
        ends = perf_counter() + 0.02
        while perf_counter() < ends:
            pass

    for _ in range(3):
        handshakes.put(long, b"many")
    await happens(lambda: handshakes._pause is not None)
    handshakes.put(partial(order.append, "one"), b"one")
    assert handshakes._pause is None
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == ["long", "one"]
    assert handshakes._pause is not None
    monkeypatch.setattr("svcdns.tls.transport.MAX_DEBT", 0.0)
    handshakes.put(partial(order.append, "two"), b"two")
    assert handshakes._pause is not None
    await happens(lambda: not handshakes._scheduled)
    assert order == ["long", "one", "two", "long", "long"]


@pytest.mark.parametrize(
    ("sent", "begins"),
    [
        pytest.param(b"\x16", False, id="one octet"),
        pytest.param(b"\x16\x03\x01\x00\x20" + bytes(31), False, id="all but one octet"),
        pytest.param(b"\x16\x03\x01\x00\x20" + bytes(32), True, id="a record"),
        pytest.param(b"\x16\x03\x01\x40\x01", True, id="too long"),
        pytest.param(b"GET", True, id="no handshake"),
    ],
)
async def test_a_handshake_begins_with_a_record(sent: bytes, begins: bool) -> None:
    """The state of TLS is made when the first record of a client is complete, or cannot be one."""
    made: list[int] = []
    failures: list[Exception] = []

    def side(incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        made.append(incoming.pending)
        return SERVER.wrap_bio(incoming, outgoing, server_side=True)

    left, right = socket.socketpair()
    left.setblocking(False)
    with right:
        transport = TlsTransport(side, Echo, failures.append, HandshakeQueue(), 60.0, server_side=True)
        SocketTransport(asyncio.get_running_loop(), left, transport)
        for octet in sent:
            right.send(bytes((octet,)))
            transport.readable()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert bool(made) == begins
        right.shutdown(socket.SHUT_WR)
        await happens(lambda: failures)


async def test_the_steps_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When MAX_STEPS steps wait, the client with the most steps loses its newest step."""
    monkeypatch.setattr("svcdns.tls.transport.MAX_STEPS", 3)
    handshakes, done = HandshakeQueue(), list[str]()
    for number in range(5):
        handshakes.put(partial(done.append, f"many {number}"), b"many")
    handshakes.put(partial(done.append, "one"), b"one")
    await happens(lambda: not handshakes._scheduled)
    assert sorted(done) == ["many 0", "many 1", "one"]


async def test_a_step_that_fails_does_not_stop_the_others() -> None:
    handshakes, done = HandshakeQueue(), []
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def fails() -> None:
        raise RuntimeError("broken")

    handshakes.put(fails)
    handshakes.put(lambda: done.append(1))
    await happens(lambda: done)
    assert [str(one) for one in reported] == ["broken"]


async def test_the_client_side_resumes_a_session() -> None:
    sessions: list[ssl.SSLSession | None] = [None]

    async with echoing() as place:
        for expected in (False, True):
            echo = Echo()
            failures: list[Exception] = []

            def side(incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
                return CLIENT.wrap_bio(incoming, outgoing, server_hostname="dns.test", session=sessions[-1])

            transport = TlsTransport(side, lambda made=echo: made, failures.append, HandshakeQueue(), 10.0)  # type: ignore[misc]
            await asyncio.get_running_loop().create_connection(lambda made=transport: made, "127.0.0.1", place.port)  # type: ignore[misc]
            await happens(lambda made=echo: hasattr(made, "transport"))  # type: ignore[misc]
            assert not failures
            tls = echo.transport.get_extra_info("ssl_object")
            assert tls.session_reused is expected
            await happens(lambda: len(place.made) == len(sessions))
            place.made[-1].transport.write(b"x")
            await happens(lambda made=echo: made.got)  # type: ignore[misc]
            sessions.append(tls.session)
            echo.transport.close()
            await happens(lambda made=echo: made.lost)  # type: ignore[misc]
