"""DNS over QUIC: one query on each stream, and the errors of RFC 9250."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aioquic.quic.events import StreamReset

from svcdns.quic.doq import DoqError
from svcdns.serving.transport.quic import TRANSPORT
from svcdns.wire.tcp_framing import framed
from tests.support.quic_server import Served, query, reply_to

KEEPALIVE = query()[:10] + b"\0\1" + query()[12:] + b"\0\0\x29\4\xd0\0\0\0\0\0\4\0\x0b\0\0"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served(TRANSPORT)
    yield served
    served.close()


async def test_each_stream_gets_the_reply_to_its_query(served: Served) -> None:
    client = await served.connected()
    streams = {client.ask(query(b"\1" + letter)): letter for letter in (b"a", b"b", b"c")}
    await served.until(lambda: all(client.ended(stream) for stream in streams))
    for stream, letter in streams.items():
        assert client.data(stream) == framed(reply_to(query(b"\1" + letter)))
    assert {one.protocol for one in served.endpoint.clients} == {"udp"}
    assert {one.address for one in served.endpoint.clients} == {"127.0.0.1"}
    assert served.endpoint.clients[0].port == client.socket.getsockname()[1]
    assert served.counts["coredns_dns_quic_responses_total", "0x0"] == 3


async def test_query_in_pieces_is_answered_when_it_is_complete(served: Served) -> None:
    client = await served.connected()
    wire = framed(query())
    stream = client.quic.get_next_available_stream_id()
    for octet in wire:
        assert not served.endpoint.queries
        client.quic.send_stream_data(stream, bytes((octet,)))
        await served.step()
    await served.until(lambda: client.ended(stream))
    assert served.endpoint.queries == [query()]


async def test_reply_may_come_later_and_after_others(served: Served) -> None:
    served.endpoint.reply = None
    client = await served.connected()
    first, second = client.ask(query(b"\1a")), client.ask(query(b"\1b"))
    await served.until(lambda: len(served.endpoint.held) == 2)
    for packet, send in reversed(served.endpoint.held):
        send(reply_to(packet))
        await served.step()
    await served.until(lambda: client.ended(first) and client.ended(second))
    assert client.data(first) == framed(reply_to(query(b"\1a")))


async def test_long_messages_pass_in_both_directions(served: Served) -> None:
    client = await served.connected()
    packet = query() + bytes(60_000)
    stream = client.ask(packet)
    await served.until(lambda: client.ended(stream))
    assert client.data(stream) == framed(reply_to(packet))


@pytest.mark.parametrize(
    ("data", "ended"),
    [
        pytest.param(framed(query(ident=1)), True, id="message ID"),
        pytest.param(framed(KEEPALIVE), True, id="TCP keepalive"),
        pytest.param(framed(query()) + b"\0", True, id="octets after the message"),
        pytest.param(framed(query()) * 2, True, id="two messages"),
        pytest.param(framed(query())[:-1], True, id="incomplete"),
        pytest.param(b"\0", True, id="half a length"),
        pytest.param(b"", True, id="nothing"),
        pytest.param(b"\0\0", True, id="length 0"),
        pytest.param(framed(bytes(11)), True, id="no header"),
    ],
)
async def test_violation_closes_the_connection_with_protocol_error(served: Served, data: bytes, ended: bool) -> None:
    client = await served.connected()
    client.quic.send_stream_data(0, data, ended)
    await served.until(lambda: client.closed_with is not None)
    assert client.closed_with == DoqError.PROTOCOL_ERROR
    assert served.endpoint.queries in ([], [query()])
    assert served.counts["coredns_dns_quic_responses_total", "0x2"] == 1
    assert served.server.idle


async def test_second_message_in_another_frame_is_a_violation(served: Served) -> None:
    client = await served.connected()
    stream = client.ask(query(), ended=False)
    await served.until(lambda: client.ended(stream))
    client.quic.send_stream_data(stream, framed(query()), True)
    await served.until(lambda: client.closed_with is not None)
    assert client.closed_with == DoqError.PROTOCOL_ERROR
    assert len(served.endpoint.queries) == 1


async def test_query_without_a_reply_ends_its_stream(served: Served) -> None:
    served.endpoint.reply = lambda _: b""
    client = await served.connected()
    stream = client.ask(query())
    await served.until(lambda: any(isinstance(event, StreamReset) for event in client.events))
    reset = next(event for event in client.events if isinstance(event, StreamReset))
    assert (reset.stream_id, reset.error_code) == (stream, DoqError.INTERNAL_ERROR)
    assert client.closed_with is None
    assert served.counts["coredns_dns_quic_responses_total", "0x1"] == 1
