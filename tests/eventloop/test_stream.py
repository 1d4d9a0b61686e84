"""Transports of connected sockets. Their protocols read the sockets directly."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest

from svcdns.eventloop.loop import new_loop
from svcdns.eventloop.stream import SocketTransport

LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(
        new_loop, id="drained", marks=pytest.mark.skipif(sys.platform != "linux", reason="elsewhere this is asyncio's")
    ),
]


class Events(asyncio.Protocol):
    """A protocol that reads its socket, and records the events of the connection."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins to read."""
        assert isinstance(transport, SocketTransport)
        self.transport = transport
        transport.resume_reading()

    def readable(self) -> None:
        """Reads the socket once."""
        data = os.read(self.transport.fd, 65536)
        self.data += data
        if not data:
            self.seen.append("end")
            self.transport.close()

    def pause_writing(self) -> None:
        self.seen.append("pause")

    def resume_writing(self) -> None:
        self.seen.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        assert exc is None
        self.seen.append("lost")


async def until(what: Callable[[], object]) -> None:
    """Waits until `what` returns something true."""
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Events, socket.socket]]:
    """Yields a protocol, and the other end of its connection."""
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    events = Events()
    with right:
        SocketTransport(asyncio.get_running_loop(), left, events)
        yield events, right
        events.transport.abort()
        await until(lambda: events.seen[-1:] == ["lost"])
    assert left.fileno() == -1


async def reads_and_pauses() -> None:
    """Checks that the protocol reads unless it has paused, and that it learns of the end of the stream."""
    async with connected() as (events, peer):
        peer.send(b"a")
        await until(lambda: events.data == b"a")
        events.transport.pause_reading()
        peer.send(b"b")
        for _ in range(5):
            await asyncio.sleep(0)
        assert events.data == b"a"
        events.transport.resume_reading()
        await until(lambda: events.data == b"ab")
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: events.seen == ["end", "lost"])
        assert events.transport.is_closing()


async def writes_and_waits() -> None:
    """Writes more octets than the kernel takes. The protocol must pause and resume, and `close` must
    send all octets.
    """
    async with connected() as (events, peer):
        transport, sent, got = events.transport, 4 << 20, 0
        transport.set_write_buffer_limits(1000)
        transport.write(bytes(sent))
        assert events.seen == ["pause"]
        assert 0 < transport.get_write_buffer_size() < sent
        transport.write(b"x")
        transport.close()
        transport.write(b"never sent")
        async with asyncio.timeout(10):
            while got < sent + 1:
                with contextlib.suppress(BlockingIOError):
                    got += len(peer.recv(1 << 20))
                await asyncio.sleep(0)
        await until(lambda: events.seen == ["pause", "resume", "lost"])
        assert peer.recv(1) == b""
        assert got == sent + 1


async def aborts() -> None:
    """Checks that `abort`, and an error of the socket, drop the octets that are not sent yet."""
    async with connected() as (events, peer):
        events.transport.write(bytes(4 << 20))
        events.transport.abort()
        assert events.transport.get_write_buffer_size() == 0
        await until(lambda: events.seen == ["pause", "lost"])
    async with connected() as (events, peer):
        events.transport.pause_reading()
        peer.close()
        events.transport.write(b"a")
        await until(lambda: events.seen == ["lost"])
        assert events.transport.get_extra_info("peername") is None


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("scenario", [reads_and_pauses, writes_and_waits, aborts])
def test_a_socket_transport(
    scenario: Callable[[], Coroutine[None, None, None]], loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The transport works with asyncio's event loop, and with the loop that drains sockets."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scenario())


async def test_addresses() -> None:
    """The transport returns the socket and its addresses."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        accepted, _ = server.accept()
        accepted.setblocking(False)
        events = Events()
        transport = SocketTransport(asyncio.get_running_loop(), accepted, events)
        assert transport.get_extra_info("socket") is accepted
        assert transport.get_extra_info("peername") == peer.getsockname()
        assert transport.get_extra_info("sockname") == server.getsockname()
        assert transport.get_extra_info("ssl_object") is None
        transport.abort()
        await until(lambda: events.seen == ["lost"])
