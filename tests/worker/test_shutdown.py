"""The end of a worker, with real sockets on loopback."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from time import monotonic

import dns.message
import pytest

from svcdns.chain.routing import Listener, Route
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.process.cookie_secrets import private_page
from svcdns.serving.cookies import Cookies
from svcdns.serving.listeners import Listeners
from svcdns.serving.listening_sockets import SocketDescription
from svcdns.telemetry.counters import Counters
from svcdns.worker import shutdown
from svcdns.worker.shutdown import Shutdown
from tests.support.responder import REPLY
from tests.support.sockets import udp_and_tcp
from tests.support.tcp import Client

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere new datagrams wait in the socket")


class World:
    """The listeners of a worker with one UDP and one TCP socket, and the objects that end them."""

    def __init__(self) -> None:
        """Creates a worker that answers names below `slow.` only after `release` is set."""
        self.listeners = Listeners(Counters(), monotonic, Cookies(private_page()))
        self.shutdown = Shutdown(self.listeners, monotonic)
        self.release = asyncio.Event()
        self.asked = 0
        self.clients: list[Client] = []
        self.udp = self.tcp = ("", 0)

    async def start(self) -> None:
        """Opens the sockets, and lets the listeners read them."""
        socks = udp_and_tcp()
        self.udp, self.tcp = (sock.getsockname() for sock in socks)
        listener = Listener("127.0.0.1", 53)
        listener.routes[b"\0"] = Route(b"\0", ".", self.chain)
        described = [
            SocketDescription(number, 0, "127.0.0.1", 53, proto, 4, wildcard=False)
            for number, proto in enumerate(("udp", "tcp"))
        ]
        self.listeners.sockets(list(zip(described, (sock.detach() for sock in socks), strict=True)), [])
        self.listeners.read(frozenset({0}))
        self.listeners.swap({("127.0.0.1", 53): listener})

    def chain(self, query: Query) -> Answer:
        """Answers immediately, or, for names below `slow.`, after `release` is set."""
        self.asked += 1
        return self.later() if query.key.endswith(b"\4slow\0") else REPLY

    async def later(self) -> Reply:
        await self.release.wait()
        return REPLY

    async def connect(self) -> Client:
        self.clients.append(Client(*await asyncio.open_connection(*self.tcp)))
        return self.clients[-1]

    def datagrams(self) -> socket.socket:
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect(self.udp)
        return sock


async def received(sock: socket.socket) -> int:
    """Returns the message ID of the next reply. Raises ConnectionRefusedError."""
    return dns.message.from_wire(await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 512), 10)).id


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A World that has been started. Its sockets are closed after the test."""
    made = World()
    await made.start()
    yield made
    made.release.set()
    for client in made.clients:
        client.writer.close()
    made.listeners.connections.drain()
    made.listeners.sockets([], [0, 1])
    async with asyncio.timeout(10):
        while made.listeners.in_flight or not made.listeners.connections.none:
            await asyncio.sleep(0)


def query(ident: int, name: str = "a.b.") -> bytes:
    return dns.message.make_query(name, "A", id=ident).to_wire()


@ON_LINUX
async def test_a_stop_answers_and_refuses(world: World) -> None:
    """A UDP query in progress is answered, while new clients are refused over UDP and TCP."""
    waiting, new = world.datagrams(), world.datagrams()
    with waiting, new:
        waiting.send(query(1, "a.slow."))
        async with asyncio.timeout(10):
            while not world.asked:
                await asyncio.sleep(0)
        draining = asyncio.create_task(world.shutdown.drain())
        async with asyncio.timeout(10):
            while world.listeners.readers:
                await asyncio.sleep(0)
        new.send(query(2))
        with pytest.raises(ConnectionRefusedError):
            await received(new)
        with pytest.raises(ConnectionRefusedError):
            await world.connect()
        assert not draining.done()
        world.release.set()
        assert await received(waiting) == 1
        await draining


async def test_a_stop_closes_connections_after_a_reply(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """UDP queries are answered until the connections are closed. If a TCP client sends another query, its connection is
    closed after the reply.
    """
    monkeypatch.setattr(shutdown, "HURRY_AFTER", 60.0)
    monkeypatch.setattr(shutdown, "CLOSE_TIMEOUT", 60.0)
    client = await world.connect()
    client.send(1)
    assert (await client.reply()).id == 1
    draining = asyncio.create_task(world.shutdown.drain())
    async with asyncio.timeout(10):
        while not world.listeners.connections.closing:
            await asyncio.sleep(0)
    with world.datagrams() as sock:
        sock.send(query(2))
        assert await received(sock) == 2
    client.send(3)
    assert (await client.reply()).id == 3
    assert await client.ended()
    await draining


async def test_a_stop_closes_idle_connections(world: World) -> None:
    clients = [await world.connect() for _ in range(3)]
    clients[0].send(1)
    await clients[0].reply()
    await asyncio.wait_for(world.shutdown.drain(), 10)
    for client in clients:
        assert await client.ended()


async def test_a_hand_over_waits_for_a_query_in_progress(world: World) -> None:
    client = await world.connect()
    packet = query(1, "a.slow.")
    client.writer.write(len(packet).to_bytes(2, "big") + packet)
    async with asyncio.timeout(10):
        while not world.asked:
            await asyncio.sleep(0)
    ours, theirs = socket.socketpair()
    with theirs:
        handing_over = asyncio.create_task(world.shutdown.hand_over(ours, None))
        async with asyncio.timeout(10):
            while not world.listeners.connections.closing_tls:
                await asyncio.sleep(0)
        assert not world.listeners.connections.closing
        world.shutdown.stop()
        async with asyncio.timeout(10):
            while not world.listeners.connections.closing:
                await asyncio.sleep(0)
        assert not handing_over.done()
        world.release.set()
        assert (await client.reply()).id == 1
        assert await client.ended()
        await asyncio.wait_for(handing_over, 10)


async def test_a_hand_over_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that is never answered delays the hand-over for a limited time."""
    for name in ("HAND_OVER_TIMEOUT", "LAST_REPLIES"):
        monkeypatch.setattr(shutdown, name, 0.02)
    client = await world.connect()
    packet = query(1, "a.slow.")
    client.writer.write(len(packet).to_bytes(2, "big") + packet)
    async with asyncio.timeout(10):
        while not world.asked:
            await asyncio.sleep(0)
    ours, theirs = socket.socketpair()
    with theirs:
        await asyncio.wait_for(world.shutdown.hand_over(ours, None), 10)
    assert world.listeners.in_flight
