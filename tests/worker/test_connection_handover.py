"""Hand-over of connections from a worker to its successor."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from svcdns.chain.routing import Route
from svcdns.eventloop.loop import new_loop
from svcdns.eventloop.stream import SocketTransport
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.serving.transport.connections import Detached, TcpConnections
from svcdns.serving.transport.tcp import TcpConnection
from svcdns.worker import connection_handover
from svcdns.worker.connection_handover import give, take
from tests.support.responder import REPLY, ResponderSetup
from tests.support.tcp import LONG, Client, buffered, served


class World:
    """A responder with TCP connections, and a second responder that takes over the connections."""

    def __init__(self, connect: functools.partial, old: TcpConnections) -> None:  # type: ignore[type-arg]
        """Prepares a hand-over. No connection has moved yet."""
        self.connect, self.old = connect, old
        self.place, self.new = ResponderSetup("tcp"), TcpConnections()
        self.detached: list[Detached] = []
        self.imported: list[bytes] = []
        self.timeouts = LONG

    async def adopt(self, detached: Detached) -> None:
        """Continues a detached connection, as a successor does."""
        self.detached.append(detached)
        sock = socket.socket(fileno=detached.fd)
        connection = TcpConnection(self.place.responder, self.new, self.timeouts, detached)
        SocketTransport(asyncio.get_running_loop(), sock, connection)

    async def import_state(self, fd: int) -> None:
        """Reads the file with the plugins' state, as a successor does."""
        self.imported.append(os.read(fd, 1000))
        os.close(fd)

    async def move(self, file: int | None = None) -> None:
        """Hands over all connections, and the file if there is one."""
        left, right = socket.socketpair()
        await asyncio.gather(give(self.old, left, lambda: bool(self.old.open), file), receive(right, self))


async def receive(sock: socket.socket, world: World) -> None:
    """Receives a hand-over as the successor."""
    sock.setblocking(False)
    await take(sock, world.adopt, world.import_state)


@contextlib.asynccontextmanager
async def worlds(place: ResponderSetup, timeouts: Timeouts = LONG) -> AsyncIterator[World]:
    """Prepares a hand-over. Its connections are closed at the end of the context."""
    old = TcpConnections()
    async with served(place, old, timeouts) as connect:
        world = World(connect, old)
        yield world
        world.new.drain()


async def opened(world: World) -> Client:
    """Returns a client whose connection the first responder has accepted."""
    before = len(world.old.open)
    client: Client = await world.connect()
    async with asyncio.timeout(10):
        while len(world.old.open) == before:
            await asyncio.sleep(0)
    return client


async def test_a_connection_moves_between_two_queries() -> None:
    async with worlds(ResponderSetup("tcp")) as world:
        client = await opened(world)
        client.send(1)
        assert (await client.reply()).id == 1
        await world.move()
        assert (len(world.old.open), len(world.new.open)) == (0, 1)
        client.send(2, 3)
        assert [(await client.reply()).id for _ in range(2)] == [2, 3]
        assert world.place.asked


async def test_a_file_moves_before_connections(tmp_path: Path) -> None:
    """The sender closes its descriptor of the file, even if the successor has ended."""
    (tmp_path / "kept").write_bytes(b"what is kept")
    async with worlds(ResponderSetup("tcp")) as world:
        await opened(world)
        for gone in (False, True):
            file = os.open(tmp_path / "kept", os.O_RDONLY)
            if gone:
                left, right = socket.socketpair()
                right.close()
                await give(world.old, left, lambda: False, file)
            else:
                await world.move(file)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(file)
        assert world.imported == [b"what is kept"]
        assert len(world.new.open) == 1


@pytest.mark.parametrize("cut", [1, 10, 28, 29], ids=lambda cut: f"{cut} octets missing")
async def test_half_a_query_moves_with_the_connection(cut: int) -> None:
    """The rest of the query may arrive before or after the move."""
    async with worlds(ResponderSetup("tcp")) as world:
        client = await opened(world)
        client.send(7, cut=cut)
        async with asyncio.timeout(10):
            while not buffered(world.old):
                await asyncio.sleep(0)
        await world.move()
        assert world.detached[0].buffer
        whole = bytearray()
        client.writer.write, write = whole.extend, client.writer.write  # type: ignore[method-assign, assignment]
        client.send(7)
        write(bytes(whole[-cut:]))
        assert (await client.reply()).id == 7


async def test_a_query_in_flight_is_answered_first() -> None:
    """The sender answers all queries that it has read, and then hands over the connection."""
    release = asyncio.Event()

    async def later() -> Reply:
        await release.wait()
        return REPLY

    place = ResponderSetup("tcp")
    first = [later()]
    place.listener.routes[b"\0"] = Route(b"\0", ".", lambda _query: first.pop() if first else REPLY)
    async with worlds(place) as world:
        client = await opened(world)
        client.send(1, 2)
        async with asyncio.timeout(10):
            while first:
                await asyncio.sleep(0)
        moving = asyncio.create_task(world.move())
        await asyncio.sleep(0)
        assert not world.detached
        release.set()
        assert [(await client.reply()).id for _ in range(2)] == [1, 2]
        await moving
        assert world.place.asked == 0
        client.send(3)
        assert (await client.reply()).id == 3
        assert world.place.asked == 1


async def test_many_connections_move() -> None:
    async with worlds(ResponderSetup("tcp")) as world:
        clients = [await opened(world) for _ in range(300)]
        await world.move()
        assert len(world.new.open) == 300
        for number, client in enumerate(clients):
            client.send(number)
        assert [(await client.reply()).id for client in clients] == list(range(300))


async def test_the_timeout_moves_with_the_connection() -> None:
    async with worlds(ResponderSetup("tcp"), Timeouts(read=0.2, idle=60, write=60)) as world:
        client = await opened(world)
        await world.move()
        assert 0 < world.detached[0].timeout <= 0.2
        assert await client.ended()


async def test_a_client_that_closes_meanwhile() -> None:
    """If the client closes the connection during the hand-over, the successor notices it."""
    async with worlds(ResponderSetup("tcp")) as world:
        client = await opened(world)
        client.writer.close()
        await world.move()
        async with asyncio.timeout(10):
            while world.new.open:
                await asyncio.sleep(0)
        assert not world.old.open


async def test_without_a_successor_connections_are_drained() -> None:
    async with worlds(ResponderSetup("tcp")) as world:
        client = await opened(world)
        client.send(1)
        left, right = socket.socketpair()
        right.close()
        await give(world.old, left, lambda: bool(world.old.open))
        assert (await client.reply()).id == 1
        assert await client.ended()


def test_on_the_loop_of_a_worker() -> None:
    """A worker's event loop reads connections inside its selector."""

    async def moved() -> None:
        await test_a_connection_moves_between_two_queries()
        await test_many_connections_move()
        await test_without_a_successor_connections_are_drained()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(moved())


def test_the_keys_of_messages() -> None:
    """Workers of other versions read the messages, so the keys are those of svcdns 0.1.0."""
    about = {"host": "127.0.0.1", "port": 53, "family": 4, "patience": 2.5, "left": 7, "buffer": "00ff"}
    detached = connection_handover._decode({"op": "connection", **about, "fds": [9]})
    assert detached == Detached(9, "127.0.0.1", 53, 4, 2.5, b"\0\xff", 7)
    assert isinstance(detached, Detached)
    assert connection_handover._encode(detached) == {"op": "connection", **about}


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b'{"op":"connection","fds":1}', id="no descriptor"),
        pytest.param(b'{"fds":0}', id="no kind"),
        pytest.param(b'{"op":"kept","fds":0}', id="no file"),
        pytest.param(
            b'{"op":"connection","host":"","port":"53","family":4,"patience":1,"left":1,"buffer":""}', id="text"
        ),
    ],
)
async def test_a_message_that_is_none_of_a_hand_over(message: bytes, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()

    async def unexpected(_: object) -> None:
        raise AssertionError

    with theirs, caplog.at_level(logging.WARNING):
        theirs.send(message + b"\n")
        await take(ours, unexpected, unexpected)
        assert theirs.recv(1) == b""
    assert "no more connections of the worker before this one are taken over" in caplog.text
