"""A client's QUIC connection: replies that come late or are not wanted, limits, and the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from svcdns.plugin_api.settings import TransportLimits
from svcdns.quic.doq import DoqError
from svcdns.serving.transport.quic import TRANSPORT
from svcdns.serving.transport.quic_connection import MAX_RESETS, MAX_UNREAD
from svcdns.wire.tcp_framing import framed
from tests.support.quic_server import Served, query, reply_to


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served(TRANSPORT)
    yield served
    served.close()


async def test_reply_that_the_client_gave_up_is_not_sent(served: Served) -> None:
    served.endpoint.reply = None
    client = await served.connected()
    stream = client.ask(query())
    await served.until(lambda: served.endpoint.held)
    client.quic.stop_stream(stream, DoqError.REQUEST_CANCELLED)
    await served.step()
    packet, send = served.endpoint.held[0]
    send(reply_to(packet))
    await served.step()
    assert not client.data(stream)
    served.endpoint.reply = reply_to
    other = client.ask(query())
    await served.until(lambda: client.ended(other))


async def test_client_that_gives_up_many_queries_is_disconnected(served: Served) -> None:
    served.endpoint.reply = None
    client = await served.connected()
    for _ in range(MAX_RESETS + 1):
        stream = client.ask(query())
        await served.step()
        client.quic.stop_stream(stream, DoqError.REQUEST_CANCELLED)
        client.quic.reset_stream(stream, DoqError.REQUEST_CANCELLED)
        await served.step()
        if client.closed_with is not None:
            break
    await served.until(lambda: client.closed_with is not None)
    assert client.closed_with == DoqError.EXCESSIVE_LOAD
    assert served.counts["svcdns_shed_total", "misuse"] == 1


async def test_client_that_reads_no_replies_is_disconnected(served: Served) -> None:
    served.endpoint.reply = lambda packet: reply_to(packet) + bytes(60_000)
    client = await served.connected()
    for _ in range(MAX_UNREAD // 60_000 + 2):
        client.ask(query())
    client.send()
    served.server.drain()
    for _ in range(20):
        await asyncio.sleep(0)
    assert served.counts["svcdns_shed_total", "unread"] == 1
    assert served.server.idle


async def test_queries_beyond_the_pool_wait_for_earlier_ones(served: Served) -> None:
    served.endpoint.limits = TransportLimits("quic", worker_pool_size=2)
    served.endpoint.reply = None
    client = await served.connected()
    streams = [client.ask(query()) for _ in range(5)]
    await served.step()
    for expected in (2, 3, 4, 5, 5):
        await served.until(lambda expected=expected: len(served.endpoint.queries) == expected)  # type: ignore[misc]
        packet, send = served.endpoint.held.pop(0)
        send(reply_to(packet))
        await served.step()
    assert served.server.queries == 0
    await served.until(lambda: all(client.ended(stream) for stream in streams))


async def test_transfer_of_several_messages_waits_for_the_client(served: Served) -> None:
    served.endpoint.reply = None
    client = await served.connected()
    stream = client.ask(query())
    await served.until(lambda: served.endpoint.outlets)
    outlet, messages = served.endpoint.outlets[0], [bytes((n,)) * 50_000 for n in range(6)]
    assert outlet is not None

    async def transfer() -> None:
        assert outlet is not None
        for message in messages[:-1]:
            await outlet.more(message)
        served.endpoint.held[0][1](messages[-1])

    task = asyncio.get_running_loop().create_task(transfer())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    await served.until(lambda: client.ended(stream))
    assert client.data(stream) == b"".join(map(framed, messages))
    await task


async def test_transfer_to_a_client_that_goes_away_ends(served: Served) -> None:
    served.endpoint.reply = None
    client = await served.connected()
    client.ask(query())
    await served.until(lambda: served.endpoint.outlets)
    outlet = served.endpoint.outlets[0]
    assert outlet is not None
    task = asyncio.get_running_loop().create_task(outlet.more(bytes(60_000)))
    await asyncio.sleep(0)
    task = asyncio.get_running_loop().create_task(outlet.more(bytes(60_000)))
    await asyncio.sleep(0)
    client.quic.close(DoqError.NO_ERROR)
    await served.step()
    with pytest.raises(ConnectionError):
        await task


async def test_end_waits_for_queries_in_flight(served: Served) -> None:
    served.endpoint.reply = None
    busy, idle = await served.connected(), await served.connected()
    stream = busy.ask(query())
    await served.until(lambda: served.endpoint.held)
    served.server.finish()
    await served.until(lambda: idle.closed_with is not None)
    assert idle.closed_with == DoqError.NO_ERROR
    assert busy.closed_with is None
    assert not served.server.idle
    packet, send = served.endpoint.held[0]
    send(reply_to(packet))
    await served.until(lambda: busy.closed_with is not None)
    assert busy.ended(stream)
    assert busy.closed_with == DoqError.NO_ERROR
    assert served.server.idle


async def test_end_refuses_new_connections(served: Served) -> None:
    served.server.finish()
    client = served.client()
    for _ in range(5):
        await served.step()
    assert not client.received


async def test_lame_duck_closes_a_connection_after_its_reply(served: Served) -> None:
    client = await served.connected()
    served.endpoint.connections.closing_tls = True
    stream = client.ask(query())
    await served.until(lambda: client.closed_with is not None)
    assert client.ended(stream)
    assert client.closed_with == DoqError.NO_ERROR


async def test_close_ends_all_connections(served: Served) -> None:
    served.endpoint.reply = None
    client = await served.connected()
    client.ask(query())
    await served.until(lambda: served.endpoint.held)
    served.server.close()
    client.receive()
    assert client.closed_with == DoqError.NO_ERROR
    assert served.server.idle
    served.endpoint.held[0][1](reply_to(query()))  # a late reply has no effect
