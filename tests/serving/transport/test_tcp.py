"""DNS over TCP (RFC 7766)."""

from __future__ import annotations

import asyncio
import functools
import operator
import sys
from collections.abc import Callable

import dns.message
import pytest

from svcdns.chain.routing import Route
from svcdns.eventloop.loop import new_loop
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.serving.transport.tcp import TcpConnections
from tests.support.responder import REPLY, Place
from tests.support.tcp import served
from tests.support.world import counted

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere asyncio's own reader has the socket")


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


async def test_before_a_stop_connections_start_lame_duck() -> None:
    """Behind all that was asked at once; one that asks nothing stays, and new ones are answered as well."""
    connections = TcpConnections()
    async with served(Place("tcp"), connections) as connect:
        asking, silent = await connect(), await connect()
        for client in (asking, silent):
            client.send(1)
            assert (await client.reply()).id == 1
        connections.start_lame_duck()
        asking.send(2, 3)
        assert [(await asking.reply()).id for _ in range(2)] == [2, 3]
        assert await asking.ended()
        new = await connect()
        new.send(4, cut=3)
        await asyncio.sleep(0)
        assert len(connections.open) == 2
        silent.send(5)
        assert (await silent.reply()).id == 5
        assert await silent.ended()


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
        held = functools.reduce(operator.add, (len(connection._received) for connection in connections.open))
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


@ON_LINUX
def test_a_drain_reads_what_has_arrived() -> None:
    """A question that waits in the kernel is answered before the connection closes."""

    async def drained() -> None:
        connections = TcpConnections()
        async with served(Place("tcp"), connections) as connect:
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


@pytest.mark.parametrize("loop", [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(new_loop, id="drained", marks=ON_LINUX)])
def test_a_number_of_questions(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Behind the last answer the connection is closed, whether that was compiled or not."""

    async def asking() -> None:
        async with served(Place("tcp"), TcpConnections(), Timeouts(60, 60, 60, 4)) as connect:
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
