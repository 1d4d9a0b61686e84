"""DNS over TCP (RFC 7766)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import socket
import sys
import weakref
from collections.abc import Callable
from typing import Any

import dns.message
import pytest

from svcdns.chain.routing import Route
from svcdns.eventloop import stream
from svcdns.eventloop.loop import new_loop
from svcdns.eventloop.stream import SocketTransport
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.serving.transport.connections import TcpConnections
from svcdns.serving.transport.tcp import WRITE_BUFFER, TcpConnection
from svcdns.wire.tcp_framing import framed
from tests.support.responder import REPLY, ResponderSetup
from tests.support.tcp import LONG, buffered, listening, served
from tests.support.world import counted

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere asyncio's own reader has the socket")


async def test_several_queries_on_a_connection() -> None:
    """The queries are sequential, pipelined or fragmented. The chain or the answer table replies."""
    place = ResponderSetup("tcp")
    async with served(place, TcpConnections()) as connect:
        client = await connect()
        client.send(1)
        assert (await client.reply()).id == 1
        client.send(2, 3, 4)
        assert [(await client.reply()).id for _ in range(3)] == [2, 3, 4]
        packet = dns.message.make_query("a.b.", "A", id=5).to_wire()
        for octet in len(packet).to_bytes(2, "big") + packet:
            client.writer.write(bytes((octet,)))
            await client.writer.drain()
        assert (await client.reply()).id == 5
    assert place.asked == 2


async def test_replies_keep_the_order_of_their_queries() -> None:
    """The order stays the same even if the first query has to wait."""
    release = asyncio.Event()

    async def later() -> Reply:
        await release.wait()
        return REPLY

    place = ResponderSetup("tcp")
    first = [later()]
    place.listener.routes[b"\0"] = Route(b"\0", ".", lambda _query: first.pop() if first else REPLY)
    async with served(place, TcpConnections()) as connect:
        client = await connect()
        client.send(1, 2)
        await asyncio.sleep(0)
        release.set()
        assert [(await client.reply()).id for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("closes", [True, False])
async def test_the_selector_gets_the_sockets_of_clients_that_stay(
    monkeypatch: pytest.MonkeyPatch, closes: bool
) -> None:
    """A client that closes the connection after the first reply costs no registration."""
    registered: list[socket.socket] = []
    monkeypatch.setattr(stream, "add_drain", lambda _loop, sock, _drain: registered.append(sock))
    monkeypatch.setattr(stream, "remove_drain", lambda _loop, _sock: None)
    connections = TcpConnections()
    with listening() as server:
        server.listen()
        client = socket.create_connection(server.getsockname(), 10)
        sock, address = server.accept()
        sock.setblocking(False)
        client.sendall(framed(dns.message.make_query("a.b.", "A").to_wire()))
        select.select([sock], [], [], 10)
        connection = TcpConnection(ResponderSetup("tcp").responder, connections, LONG)
        transport = SocketTransport(asyncio.get_running_loop(), sock, connection, address)
        assert client.recv(512)
        if closes:
            client.close()
            select.select([sock], [], [], 10)
        async with asyncio.timeout(10):
            while connections.open if closes else not registered:
                await asyncio.sleep(0)
        assert registered == ([] if closes else [sock])
        transport.abort()
        client.close()
        async with asyncio.timeout(10):
            while connections.open:
                await asyncio.sleep(0)


async def closed_and_freed() -> None:
    """Closes a connection after a reply, and checks that its objects are freed without the garbage collector."""
    connections = TcpConnections()
    async with served(ResponderSetup("tcp"), connections) as connect:
        client = await connect()
        client.send(1)
        await client.reply()
        [connection] = connections.open
        assert isinstance(connection, TcpConnection)
        freed: list[weakref.ref[Any]] = [weakref.ref(connection), weakref.ref(connection._transport)]
        del connection
        gc.disable()
        try:
            client.writer.transport.abort()
            async with asyncio.timeout(10):
                while connections.open or any(one() for one in freed):
                    await asyncio.sleep(0)
        finally:
            gc.enable()


@pytest.mark.parametrize(
    "loop", [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(new_loop, id="drained", marks=ON_LINUX)]
)
def test_a_closed_connection_leaves_no_reference_cycle(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """The garbage collector would take a long time to free many connections."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(closed_and_freed())


async def test_a_half_closed_connection() -> None:
    """If a client has closed its sending side, its queries are answered before the connection is closed."""
    async with served(ResponderSetup("tcp"), TcpConnections()) as connect:
        client = await connect()
        client.send(1, 2)
        client.writer.write_eof()
        assert [(await client.reply()).id for _ in range(2)] == [1, 2]
        assert await client.ended()


async def test_a_stream_that_ends_within_a_query_closes_the_connection() -> None:
    async with served(ResponderSetup("tcp"), TcpConnections()) as connect:
        client = await connect()
        client.send(1, cut=3)
        client.writer.write_eof()
        assert await client.ended()


@pytest.mark.parametrize(
    "timeouts", [Timeouts(read=0.02, idle=60), Timeouts(read=60, idle=0.02)], ids=["first", "idle"]
)
async def test_a_silent_client(timeouts: Timeouts) -> None:
    """The first query has its own timeout. Later, the idle timeout applies."""
    async with served(ResponderSetup("tcp"), TcpConnections(), timeouts) as connect:
        client = await connect()
        if timeouts.idle < 1:
            client.send(1)
            await client.reply()
        assert await client.ended()


async def test_the_number_of_connections_is_bounded() -> None:
    """A connection above the limit is closed immediately. The others stay open."""
    async with served(ResponderSetup("tcp"), TcpConnections(1)) as connect:
        first = await connect()
        first.send(1)
        await first.reply()
        second = await connect()
        assert await second.ended()
        first.send(2)
        assert (await first.reply()).id == 2


def shed(place: ResponderSetup, reason: str) -> float:
    """Returns the number of connections that were dropped for this reason."""
    return counted(place.counters).get(("svcdns_shed_total", "dns://127.0.0.1:53", reason), 0)


async def test_the_client_with_the_most_connections_loses_one_to_another_client() -> None:
    """The lost connection is the one that has been idle for longest. A further connection of the busiest client is
    closed.
    """
    place = ResponderSetup("tcp")
    async with served(place, TcpConnections(3)) as connect:
        many = [await connect() for _ in range(3)]
        for client in many:
            client.send(1)
            await client.reply()
        many[0].send(2)
        await many[0].reply()
        other = await connect("127.0.0.2")
        other.send(3)
        assert (await other.reply()).id == 3
        assert await many[1].ended()
        assert await (await connect()).ended()
        for client in (many[0], many[2], other):
            client.send(4)
            assert (await client.reply()).id == 4
    assert shed(place, "connections") == 2


async def test_a_query_that_arrives_octet_by_octet() -> None:
    """The timeout is for the complete first query, however often the client sends octets."""
    place = ResponderSetup("tcp")
    async with served(place, TcpConnections(), Timeouts(read=0.05, idle=60)) as connect:
        client = await connect()
        with contextlib.suppress(ConnectionError):
            while not client.reader.at_eof():
                client.writer.write(b"\xff")
                await client.writer.drain()
                await asyncio.sleep(0)
        assert await client.ended()
    assert shed(place, "slow_query") == 1


async def test_a_client_that_never_reads_is_closed() -> None:
    """The write timeout ends the connection of a client that does not read its replies."""
    place, connections = ResponderSetup("tcp"), TcpConnections()
    async with served(place, connections, Timeouts(60, 60, 0.05), buffers=4096) as connect:
        client = await connect()
        client.writer.transport.pause_reading()
        query = dns.message.make_query("a.b.", "A", id=1).to_wire()
        client.writer.write((len(query).to_bytes(2, "big") + query) * 20_000)
        async with asyncio.timeout(10):
            while connections.open or not shed(place, "unread"):
                await asyncio.sleep(0)
        client.writer.transport.abort()


async def test_the_connections_with_many_octets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most MAX_LARGE connections may have many octets in their buffers. The client with the most
    loses its oldest.
    """
    monkeypatch.setattr("svcdns.serving.transport.connections.MAX_LARGE", 2)
    place, connections = ResponderSetup("tcp"), TcpConnections()
    query = dns.message.make_query("a.b.", "A", id=1).to_wire()
    async with served(place, connections, buffers=4096) as connect:
        sources = ["127.0.0.2", "127.0.0.3", "127.0.0.3", "127.0.0.3"]
        clients = [await connect(source) for source in sources]
        for client in clients:
            client.writer.transport.pause_reading()
            client.writer.write((len(query).to_bytes(2, "big") + query) * 20_000)
        async with asyncio.timeout(10):
            while len(connections.open) > 2:
                await asyncio.sleep(0)
                assert buffered(connections) < len(clients) * (1 << 19)
        assert {connection.client for connection in connections.open} == {b"\x7f\0\0\2", b"\x7f\0\0\3"}
        for client in clients:
            client.writer.transport.abort()
    assert shed(place, "unread") == 2


async def test_pipelined_queries_do_not_delay_other_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """After few queries of the first client, the other client gets its reply."""
    monkeypatch.setattr("svcdns.serving.transport.tcp.TURN", 0.0)
    place, polled = ResponderSetup("tcp"), []
    place.listener.observed = True
    connections = TcpConnections(poll_sockets=lambda: polled.append(1))
    query = dns.message.make_query("a.b.", "A", id=1).to_wire()
    async with served(place, connections) as connect:
        greedy, other = await connect(), await connect("127.0.0.2")
        answered: list[int] = []

        async def read_all() -> None:
            while len(answered) < 3000:
                answered.append((await greedy.reply()).id)

        greedy.writer.write((len(query).to_bytes(2, "big") + query) * 3000)
        reading = asyncio.create_task(read_all())
        async with asyncio.timeout(10):
            while not answered:
                await asyncio.sleep(0)
        other.send(7)
        assert (await other.reply()).id == 7
        assert len(answered) < 2500
        await reading


@ON_LINUX
def test_the_udp_sockets_are_read_between_connections() -> None:
    """UDP queries must not wait for the work on TCP connections."""
    polled: list[int] = []

    async def asked() -> None:
        async with served(ResponderSetup("tcp"), TcpConnections(poll_sockets=lambda: polled.append(1))) as connect:
            client = await connect()
            for ident in range(3):
                client.send(ident)
                assert (await client.reply()).id == ident

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asked())
    assert polled


async def test_a_drain_closes_idle_connections_and_waits_for_others() -> None:
    """If a worker stops, a connection with a query in flight is closed after the reply."""
    release = asyncio.Event()

    async def later() -> Reply:
        await release.wait()
        return REPLY

    place, connections = ResponderSetup("tcp", later()), TcpConnections()
    async with served(place, connections) as connect:
        busy, idle = await connect(), await connect()
        busy.send(1)
        async with asyncio.timeout(10):
            while not place.asked or len(connections.open) < 2:
                await asyncio.sleep(0)
        connections.drain()
        assert await idle.ended()
        release.set()
        assert (await busy.reply()).id == 1
        assert await busy.ended()


async def test_a_client_that_does_not_read_is_not_read() -> None:
    """The client's queries stay in its socket, so that the worker's memory is bounded."""
    place, connections = ResponderSetup("tcp"), TcpConnections()
    async with served(place, connections) as connect:
        greedy, other = await connect(), await connect()
        greedy.writer.transport.pause_reading()
        query = dns.message.make_query("a.b.", "A", id=1).to_wire()
        greedy.writer.write((len(query).to_bytes(2, "big") + query) * 200_000)
        other.send(7)
        assert (await other.reply()).id == 7
        for _ in range(200):
            await asyncio.sleep(0)
        assert buffered(connections) < 1 << 20
        greedy.writer.transport.abort()


async def test_unread_replies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No query is answered while more than WRITE_BUFFER octets of replies wait."""
    waiting: list[int] = []
    write = TcpConnection._write

    def written(connection: TcpConnection, wire: bytes) -> None:
        write(connection, wire)
        waiting.append(connection._transport.get_write_buffer_size())

    monkeypatch.setattr(TcpConnection, "_write", written)
    place, connections = ResponderSetup("tcp"), TcpConnections()
    query = dns.message.make_query("a.b.", "A", id=1).to_wire()
    async with served(place, connections, buffers=4096) as connect:
        client = await connect()
        client.send(1)
        reply = 2 + len((await client.reply()).to_wire())
        client.writer.transport.pause_reading()
        client.writer.write((len(query).to_bytes(2, "big") + query) * 20_000)
        async with asyncio.timeout(10):
            while max(waiting) <= WRITE_BUFFER:
                await asyncio.sleep(0)
        for _ in range(200):
            await asyncio.sleep(0)
        client.writer.transport.abort()
    assert max(waiting) <= WRITE_BUFFER + reply
    assert len(waiting) < 20_000


async def test_replies_are_counted() -> None:
    """Queries over TCP are counted with the protocol `tcp`."""
    place = ResponderSetup("tcp")
    async with served(place, TcpConnections()) as connect:
        client = await connect()
        client.send(1)
        await client.reply()
    assert counted(place.counters)["coredns_dns_requests_total", "dns://127.0.0.1:53", ".", "", "tcp", "1", "A"] == 1


@ON_LINUX
def test_a_drain_reads_what_has_arrived() -> None:
    """A query that waits in the kernel is answered before the connection is closed."""

    async def drained() -> None:
        connections = TcpConnections()
        async with served(ResponderSetup("tcp"), connections) as connect:
            client = await connect()
            async with asyncio.timeout(10):
                while not connections.open:
                    await asyncio.sleep(0)
            client.send(1)
            connections.drain()
            assert (await client.reply()).id == 1
            assert await client.ended()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(drained())


@pytest.mark.parametrize(
    "loop", [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(new_loop, id="drained", marks=ON_LINUX)]
)
def test_a_limited_number_of_queries(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """The connection is closed after the last permitted reply, from the chain or the answer table."""

    async def asking() -> None:
        async with served(ResponderSetup("tcp"), TcpConnections(), Timeouts(60, 60, 60, 4)) as connect:
            client = await connect()
            for ident in range(1, 5):
                client.send(ident)
                assert (await client.reply()).id == ident
            assert await client.ended()
            client = await connect()
            client.send(1, 2, 3, 4, 5)
            assert [(await client.reply()).id for _ in range(4)] == [1, 2, 3, 4]
            assert await client.ended()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asking())


@pytest.mark.parametrize(
    "loop", [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(new_loop, id="drained", marks=ON_LINUX)]
)
def test_a_connection_that_is_drained_is_not_read_for_ever(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """A client that keeps sending cannot stop a worker from stopping. Its query in flight is answered."""

    async def flood() -> None:
        release = asyncio.Event()

        async def later() -> Reply:
            await release.wait()
            return REPLY

        connections, first = TcpConnections(), [later()]
        place = ResponderSetup("tcp")
        place.listener.routes[b"\0"] = Route(b"\0", ".", lambda _query: first.pop() if first else REPLY)
        async with served(place, connections) as connect:
            client = await connect()
            client.send(1)
            async with asyncio.timeout(10):
                while first:
                    await asyncio.sleep(0)
            connections.drain()
            client.writer.write(bytes(8 << 20))
            for _ in range(500):
                await asyncio.sleep(0)
            assert buffered(connections) < 1 << 20
            release.set()
            assert (await client.reply()).id == 1
            client.writer.transport.abort()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(flood())


@pytest.mark.parametrize(
    "loop", [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(new_loop, id="drained", marks=ON_LINUX)]
)
def test_a_detached_connection_reads_nothing(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Further queries stay in the kernel until the connection is resumed."""

    async def detach() -> None:
        connections = TcpConnections()
        async with served(ResponderSetup("tcp"), connections) as connect:
            client = await connect()
            client.send(1)
            await client.reply()
            (connection,) = connections.open
            assert connection.detach() is not None
            assert connection.detach() is None
            client.send(2)
            for _ in range(20):
                await asyncio.sleep(0)
            connection.resume()
            assert (await client.reply()).id == 2
            detached = connection.detach()
            assert detached is not None
            with socket.socket(fileno=os.dup(detached.fd)) as successor:
                client.send(3)
                connections.drain()
                connection.resume()  # nothing: it is closed
                async with asyncio.timeout(10):
                    while connections.open:
                        await asyncio.sleep(0)
                successor.setblocking(False)
                assert len(await asyncio.get_running_loop().sock_recv(successor, 512)) > 12

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(detach())
