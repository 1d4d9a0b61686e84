"""A worker's sockets, and which of them the worker reads."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import weakref
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from svcdns.chain.routing import Listener, Route
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Client, Query
from svcdns.plugin_api.reply import rcode_only
from svcdns.process.cookie_secrets import private_page
from svcdns.serving.cookies import Cookies
from svcdns.serving.listeners import Listeners, SocketDescription, _ListeningSocket
from svcdns.serving.metrics import HitCounter
from svcdns.serving.metrics_flush import flush
from svcdns.serving.transport.flood_guard import FloodGuard
from svcdns.telemetry.counters import Counters
from svcdns.wire.codes import Rcode
from tests.support.responder import REPLY

CLIENT = Client("192.0.2.1", 4000, "127.0.0.1", 50, "tcp")


def listening() -> int:
    """Returns the descriptor of a listening TCP socket."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(8)
    return sock.detach()


def described(number: int, proto: str = "tcp") -> SocketDescription:
    """Returns the description of a socket in slot 0."""
    return SocketDescription(number, 0, "127.0.0.1", 50 + number, proto, 4, wildcard=False)


def chains(*numbers: int) -> dict[tuple[str, int], Listener]:
    """Returns a listener for each port, with a route for the root zone."""
    made = {("127.0.0.1", 50 + number): Listener("127.0.0.1", 50 + number) for number in numbers}
    for listener in made.values():
        listener.routes[b"\0"] = Route(b"\0", ".", lambda _query: rcode_only(Rcode.SERVFAIL))
    return made


class Guard(FloodGuard):
    """A flood guard that the test switches on and off. It keeps the clients that it counts."""

    def __init__(self) -> None:
        self.active, self.clients = True, list[bytes]()

    def look(self, now: float) -> None:
        """Looks at nothing."""

    def note(self, clients: list[bytes]) -> None:
        self.clients += clients


def test_connections_are_accepted_at_intervals_while_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections are counted, and accepted one at a time."""
    monkeypatch.setattr("svcdns.serving.listeners.ACCEPT_PAUSE", 3600.0)
    with _ListeningSocket(fileno=listening()) as server, contextlib.ExitStack() as stack:
        server.guard = guard = Guard()
        for _ in range(3):
            stack.enter_context(socket.create_connection(server.getsockname()))
        server.accept()[0].close()
        with pytest.raises(BlockingIOError):
            server.accept()
        assert guard.clients == [bytes((127, 0, 0, 1))]
        guard.active = False
        for _ in range(2):
            server.accept()[0].close()
        assert len(guard.clients) == 1


@pytest.fixture
async def servers(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.Server]:
    """Records every asyncio server that is created."""
    made: list[asyncio.Server] = []
    loop = asyncio.get_running_loop()
    create = loop.create_server

    async def record(*arguments: object, **options: object) -> asyncio.Server:
        made.append(await create(*arguments, **options))  # type: ignore[call-overload]
        return made[-1]

    monkeypatch.setattr(loop, "create_server", record)
    return made


@pytest.fixture
async def listeners() -> AsyncIterator[Listeners]:
    """Creates listeners with three TCP sockets and without chains."""
    made = Listeners(Counters(), monotonic, Cookies(private_page()))
    await made.sockets([(described(number), listening()) for number in range(3)], [])
    await made.read(frozenset({0}))
    yield made
    await made.sockets([], list(range(10)))


async def test_simultaneous_changes_create_one_server_for_each_socket(
    listeners: Listeners, servers: list[asyncio.Server]
) -> None:
    """New chains and new sockets arrive at the same time. All servers can be closed afterwards."""
    await asyncio.gather(listeners.swap(chains(0, 1, 2)), listeners.read(frozenset({0, 1})))
    assert len(servers) == 3
    assert listeners.reading
    await listeners.read(frozenset())
    assert not any(server.is_serving() for server in servers)


async def test_sockets_that_are_added_while_others_are_opened(
    listeners: Listeners, servers: list[asyncio.Server]
) -> None:
    await asyncio.gather(listeners.swap(chains(0, 1, 2, 9)), listeners.sockets([(described(9), listening())], []))
    assert sum(server.is_serving() for server in servers) == 4
    assert listeners.reading


async def test_a_socket_that_is_removed_while_its_server_starts(
    listeners: Listeners, servers: list[asyncio.Server]
) -> None:
    await asyncio.gather(listeners.swap(chains(0, 1, 2)), listeners.sockets([], [0, 1, 2]), listeners.read(frozenset()))
    assert not any(server.is_serving() for server in servers)


async def test_the_transport_changes_while_a_server_starts(listeners: Listeners) -> None:
    """Connections get the responder of the newest chains."""
    first, second = chains(0, 1, 2), chains(0, 1, 2)
    for listener in second.values():
        listener.transport = "tls"
    await asyncio.gather(listeners.swap(first), listeners.swap(second))
    assert all(responder.listener.transport == "tls" for responder in listeners.responders)
    await listeners.swap(first)
    with socket.socket() as client:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, listeners._sockets[0].sock.getsockname())
        async with asyncio.timeout(10):
            while not listeners.connections.open:
                await asyncio.sleep(0)
    (connection,) = listeners.connections.open
    assert connection.responder.listener is first["127.0.0.1", 50]
    async with asyncio.timeout(10):
        while listeners.connections.open:
            await asyncio.sleep(0)


class _Chain:
    def __call__(self, _query: Query) -> Answer:
        return REPLY


@pytest.mark.parametrize("after", ["another chain", "no listener"])
async def test_a_reload_releases_the_chain_before(listeners: Listeners, after: str) -> None:
    """No entry, counter or open connection keeps the old chain alive."""
    made = chains(0)
    fast_path, chain = FastPath(), _Chain()
    route = Route(b"\0", ".", chain, counted=True, fast_path=fast_path)
    made["127.0.0.1", 50].routes[b"\0"] = route
    await listeners.swap(made)
    with socket.socket() as client:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, listeners._sockets[0].sock.getsockname())
        async with asyncio.timeout(10):
            while not listeners.connections.open:
                await asyncio.sleep(0)
        (responder,) = listeners.responders
        sent: list[bytes] = []
        packet = b"\0\7\1\0\0\1\0\0\0\0\0\0\1a\1b\0\0\1\0\1"
        for _ in range(2):
            responder.answer(packet, CLIENT, sent.append, 0.0)
        assert responder.lookup(packet, CLIENT, 0.0) == sent[0]
        responder.fast_path_counters[fast_path, ".", 1] = HitCounter((), route)
        before = weakref.ref(chain)
        del fast_path, chain, route, made, responder
        await listeners.swap(chains(0) if after == "another chain" else {})
        async with asyncio.timeout(10):
            while listeners.connections.open and not listeners.responders:
                await asyncio.sleep(0)
        for responder in listeners.responders:
            list(flush(responder))
        list(listeners.purge())
        gc.collect()
        assert before() is None
    async with asyncio.timeout(10):
        while listeners.connections.open:
            await asyncio.sleep(0)


async def test_connections_that_wait_are_accepted_before_new_ones_are_refused(listeners: Listeners) -> None:
    """`refuse_connections` first accepts the connections in the kernel's queue. Then the kernel refuses new clients,
    even if another process has the same socket.
    """
    await listeners.swap(chains(0))
    sock = listeners._sockets[0].sock
    address = sock.getsockname()
    with socket.socket(fileno=os.dup(sock.fileno())), socket.create_connection(address, 10):
        await listeners.refuse_connections()
        assert len(listeners.connections.open) == 1
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 10)
        listeners.connections.drain()
    async with asyncio.timeout(10):
        while listeners.connections.open:
            await asyncio.sleep(0)


async def test_a_responder_created_after_announce_end(listeners: Listeners) -> None:
    """The new responder also sends a keepalive timeout of 0."""
    await listeners.swap(chains(0, 1))
    first = listeners._responder(listeners._sockets[0].key)
    assert first.keepalive == 100
    listeners.announce_end()
    second = listeners._responder(listeners._sockets[1].key)
    assert (first.keepalive, second.keepalive) == (0, 0)
