"""Closing the connections of a worker when it stops or is replaced in an upgrade."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import dns.message
import pytest

from svcdns.eventloop.loop import new_loop
from svcdns.serving.transport import tcp
from svcdns.serving.transport.connections import TcpConnections
from tests.support.responder import ResponderSetup
from tests.support.tcp import Client, buffered, served

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere asyncio's own reader has the socket")


async def answered(client: Client, *idents: int) -> None:
    """Makes the client send these queries together and receive their replies."""
    client.send(*idents)
    assert [(await client.reply()).id for _ in idents] == list(idents)


async def test_a_connection_is_closed_after_a_reply() -> None:
    """A connection without a query stays open until `hurry`."""
    connections = TcpConnections()
    async with served(ResponderSetup("tcp"), connections) as connect:
        asking, idle = await connect(), await connect()
        for client in (asking, idle):
            await answered(client, 1)
        connections.close_after_reply()
        await answered(asking, 2)
        assert await asking.ended()
        new = await connect()
        await answered(new, 3)
        assert await new.ended()
        assert len(connections.open) == 1
        connections.hurry()
        assert await idle.ended()


async def test_a_connection_with_pipelined_queries_is_closed_when_it_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "IDLE_CLOSE", 60.0)
    connections = TcpConnections()
    async with served(ResponderSetup("tcp"), connections) as connect:
        client, other = await connect(), await connect()
        for one in (client, other):
            await answered(one, 1, 2)
        connections.close_after_reply()
        await answered(client, 3)
        await answered(client, 4)
        other.send(5, cut=3)
        async with asyncio.timeout(10):
            while not buffered(connections):
                await asyncio.sleep(0)
        connections.hurry()
        assert await client.ended()
        packet = dns.message.make_query("a.b.", "A", id=5).to_wire()
        other.writer.write(packet[-3:])
        assert (await other.reply()).id == 5
        assert await other.ended()


async def test_an_idle_connection_with_pipelined_queries_is_closed() -> None:
    """After `close_after_reply`, the connection is closed IDLE_CLOSE seconds after its last reply."""
    connections = TcpConnections()
    async with served(ResponderSetup("tcp"), connections) as connect:
        client = await connect()
        connections.close_after_reply()
        await answered(client, 1, 2, 3)
        assert await client.ended()


@pytest.mark.parametrize(
    "loop", [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(new_loop, id="drained", marks=ON_LINUX)]
)
def test_lame_duck(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """A connection from before lame duck is closed after a reply. A later connection stays open until the end."""

    async def lame_duck() -> None:
        connections = TcpConnections()
        async with served(ResponderSetup("tcp"), connections) as connect:
            early = await connect()
            await answered(early, 1)
            connections.note_present()
            await answered(early, 2)
            late = await connect()
            await answered(late, 3)
            connections.close_present()
            await answered(early, 4)
            assert await early.ended()
            for ident in (5, 6):
                await answered(late, ident)
            connections.close_after_reply()
            await answered(late, 7)
            assert await late.ended()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(lame_duck())


async def test_a_hand_over_during_lame_duck_closes_only_tls_connections() -> None:
    connections = TcpConnections()
    async with served(ResponderSetup("tcp"), connections) as connect:
        client = await connect()
        await answered(client, 1)
        connections.close_after_reply(tls_only=True)
        connections.note_present()
        connections.close_present()
        for ident in (2, 3):
            await answered(client, ident)


async def test_tls_only() -> None:
    """Connections without TLS stay open for the hand-over to another worker."""
    connections = TcpConnections()
    async with served(ResponderSetup("tcp"), connections) as connect:
        client = await connect()
        connections.close_after_reply(tls_only=True)
        connections.hurry()
        for ident in (1, 2):
            await answered(client, ident)
        assert len(connections.open) == 1
