"""A worker's sockets, and which of them the worker reads."""

from __future__ import annotations

import asyncio
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
from svcdns.serving.listeners import Listeners
from svcdns.serving.listening_sockets import SocketDescription
from svcdns.serving.metrics import HitCounter, Origin
from svcdns.serving.metrics_flush import flush
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


def accepting(listeners: Listeners) -> int:
    """Returns the number of TCP sockets whose connections are accepted."""
    return sum(one.acceptor is not None for one in listeners._sockets.values())


@pytest.fixture
async def listeners() -> AsyncIterator[Listeners]:
    """Creates listeners with three TCP sockets and without chains."""
    made = Listeners(Counters(), monotonic, Cookies(private_page()))
    made.sockets([(described(number), listening()) for number in range(3)], [])
    made.read(frozenset({0}))
    yield made
    made.sockets([], list(range(10)))


async def test_the_sockets_that_are_read(listeners: Listeners) -> None:
    """A socket is read while it is in a slot of this worker and a listener exists for it."""
    assert not listeners.reading
    listeners.swap(chains(0, 1))
    assert accepting(listeners) == 2
    assert listeners.reading
    listeners.sockets([(described(9), listening())], [1])
    assert accepting(listeners) == 1
    listeners.swap(chains(0, 2, 9))
    assert accepting(listeners) == 3
    listeners.read(frozenset())
    assert accepting(listeners) == 0


def test_a_worker_without_listeners() -> None:
    """The Corefile has encrypted transports only. The worker is ready when the supervisor has told it what to read."""
    made = Listeners(Counters(), monotonic, Cookies(private_page()))
    assert not made.reading
    made.read(frozenset({0}))
    assert made.reading


async def test_another_transport(listeners: Listeners) -> None:
    """If the transport of a listener changes, connections get the responder of the newest chains."""
    first, second = chains(0, 1, 2), chains(0, 1, 2)
    for listener in second.values():
        listener.transport = "tls"
    listeners.swap(first)
    listeners.swap(second)
    assert all(responder.listener.transport == "tls" for responder in listeners.responders)
    listeners.swap(first)
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
    made = chains(0)
    fast_path, chain = FastPath(), _Chain()
    route = Route(b"\0", ".", chain, counted=True, fast_path=fast_path)
    made["127.0.0.1", 50].routes[b"\0"] = route
    listeners.swap(made)
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
        responder.fast_path_counters[fast_path, ".", 1] = HitCounter((), Origin(route))
        before = weakref.ref(chain)
        del fast_path, chain, route, made, responder
        listeners.swap(chains(0) if after == "another chain" else {})
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
    listeners.swap(chains(0))
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
    listeners.swap(chains(0, 1))
    first = listeners._responder(listeners._sockets[0].key)
    assert first.keepalive == 100
    listeners.announce_end()
    second = listeners._responder(listeners._sockets[1].key)
    assert (first.keepalive, second.keepalive) == (0, 0)


async def test_shed_after_a_reload(listeners: Listeners) -> None:
    """A UDP socket gets another reader when its listener gets the plugin *shed*, or loses it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        listeners.sockets([(described(5, "udp"), os.dup(sock.fileno()))], [])
    kinds = []
    for sheds in (False, True, True, False):
        made = chains(5)
        made["127.0.0.1", 55].sheds = sheds
        listeners.swap(made)
        kinds.append(type(listeners.readers[0]).__name__)
    assert kinds == ["UdpReader", "SheddingReader", "SheddingReader", "UdpReader"]
