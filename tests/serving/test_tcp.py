"""DNS over TCP (RFC 7766)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import operator
from collections.abc import AsyncIterator

import dns.message
import pytest

from svcdns.chain.routing import Route
from svcdns.serving.tcp import TcpConnection, TcpConnections, Timeouts
from svcdns.wire.reply import Reply
from tests.support.desk import REPLY, Place
from tests.support.world import counted

LONG = Timeouts(60, 60, 60)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Made by `connect`."""
        self.reader, self.writer = reader, writer

    def send(self, *idents: int, cut: int = 0) -> None:
        """Questions behind each other, without their last `cut` octets."""
        data = b""
        for ident in idents:
            packet = dns.message.make_query("a.b.", "A", id=ident).to_wire()
            data += len(packet).to_bytes(2, "big") + packet
        self.writer.write(data[: len(data) - cut])

    async def reply(self) -> dns.message.Message:
        """The next reply."""
        async with asyncio.timeout(10):
            size = int.from_bytes(await self.reader.readexactly(2), "big")
            return dns.message.from_wire(await self.reader.readexactly(size))

    async def ended(self) -> bool:
        """Waits for the end of the connection."""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read() == b""
        return True


@contextlib.asynccontextmanager
async def served(place: Place, connections: TcpConnections, timeouts: Timeouts = LONG) -> AsyncIterator[functools.partial]:  # type: ignore[type-arg]
    """A server; gives what makes clients."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: TcpConnection(place.desk, connections, timeouts), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    made: list[Client] = []

    async def connect() -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        made.append(client)
        return client

    try:
        yield functools.partial(connect)
    finally:
        for client in made:
            client.writer.close()
        server.close()
        async with asyncio.timeout(10):
            while connections.open:
                await asyncio.sleep(0)


async def test_several_questions_on_a_connection() -> None:
    """Behind each other, pipelined, and in pieces; counted from table or chain."""
    place = Place("tcp")
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


async def test_answers_keep_the_order_of_their_questions() -> None:
    """Also where one has to wait."""
    release = asyncio.Event()

    async def later() -> Reply:
        await release.wait()
        return REPLY

    place = Place("tcp")
    first = [later()]
    place.listener.routes[b"\0"] = Route(b"\0", ".", lambda _query: first.pop() if first else REPLY)
    async with served(place, TcpConnections()) as connect:
        client = await connect()
        client.send(1, 2)
        await asyncio.sleep(0)
        release.set()
        assert [(await client.reply()).id for _ in range(2)] == [1, 2]


async def test_a_client_that_has_said_all_still_gets_its_answer() -> None:
    """A half-closed connection is answered, then closed."""
    async with served(Place("tcp"), TcpConnections()) as connect:
        client = await connect()
        client.send(1, 2)
        client.writer.write_eof()
        assert [(await client.reply()).id for _ in range(2)] == [1, 2]
        assert await client.ended()


async def test_half_a_question_and_an_end() -> None:
    """Nothing to answer: closed."""
    async with served(Place("tcp"), TcpConnections()) as connect:
        client = await connect()
        client.send(1, cut=3)
        client.writer.write_eof()
        assert await client.ended()


@pytest.mark.parametrize("timeouts", [Timeouts(read=0.02, idle=60), Timeouts(read=60, idle=0.02)], ids=["first", "idle"])
async def test_who_says_nothing_is_hung_up(timeouts: Timeouts) -> None:
    """After the time for a first message, or of idleness."""
    async with served(Place("tcp"), TcpConnections(), timeouts) as connect:
        client = await connect()
        if timeouts.idle < 1:
            client.send(1)
            await client.reply()
        assert await client.ended()


async def test_the_number_of_connections_is_bounded() -> None:
    """One too many is closed at once; those that are open stay."""
    async with served(Place("tcp"), TcpConnections(1)) as connect:
        first = await connect()
        first.send(1)
        await first.reply()
        second = await connect()
        assert await second.ended()
        first.send(2)
        assert (await first.reply()).id == 2


async def test_a_drain_closes_what_is_idle_and_waits_for_what_is_not() -> None:
    """The question in flight is answered first."""
    release = asyncio.Event()

    async def later() -> Reply:
        await release.wait()
        return REPLY

    place, connections = Place("tcp", later()), TcpConnections()
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
    """Its questions wait in its own socket; our memory is bounded. Others are answered."""
    place, connections = Place("tcp"), TcpConnections()
    async with served(place, connections) as connect:
        greedy, other = await connect(), await connect()
        greedy.writer.transport.pause_reading()
        question = dns.message.make_query("a.b.", "A", id=1).to_wire()
        greedy.writer.write((len(question).to_bytes(2, "big") + question) * 200_000)
        other.send(7)
        assert (await other.reply()).id == 7
        for _ in range(200):
            await asyncio.sleep(0)
        held = functools.reduce(operator.add, (len(connection._buffer) for connection in connections.open))
        assert held < 1 << 20
        greedy.writer.transport.abort()


async def test_counts_what_is_answered() -> None:
    """By its protocol."""
    place = Place("tcp")
    async with served(place, TcpConnections()) as connect:
        client = await connect()
        client.send(1)
        await client.reply()
    assert counted(place.counters)["coredns_dns_requests_total", "dns://127.0.0.1:53", ".", "", "tcp", "1", "A"] == 1
