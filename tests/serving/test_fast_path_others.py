"""The short way of outside names where time passes, where others ask the same, and where something fails."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from svcdns.plugin_api.fast_path import FastPathQuery, Key
from svcdns.wire.simple_reply import SimpleReply
from tests.support.outside import NAME, PLAIN, Outside, Seen, alike, both_ways, query, saying, shape
from tests.support.responder import bound
from tests.support.scripted_upstream import Respond, ScriptedUpstream, held, silence

A = f"{NAME} 300 IN A 192.0.2.1"
MANY = tuple(f"{NAME} 300 IN A 192.0.2.{number}" for number in range(1, 41))
"""More than 512 octets, and less than 1232."""
SOA = "example.org. 90 IN SOA ns.example.org. host.example.org. 1 7200 3600 1209600 60"
QUESTION = {"one": query(), "AD": query(flags=dns.flags.AD), "EDNS": query(use_edns=0), "DO": query(want_dnssec=True)}


async def two_clients(outside: Outside, upstream: ScriptedUpstream, *packets: bytes) -> list[bytes]:
    """The replies to questions of clients of their own that are on their way together."""
    clients = [bound() for _ in packets]
    try:
        for client, packet in zip(clients, packets, strict=True):
            outside.send(packet, client)
        await upstream.question()
        replies = asyncio.gather(*(outside.reply(client) for client in clients))
        while not replies.done():
            upstream.release()  # more than once: the event loop may hand over the upstream queries one at a time
            await asyncio.sleep(0)
        return await replies
    finally:
        for client in clients:
            client.close()


async def together(body: str, respond: Respond, *packets: bytes) -> tuple[Seen, Seen]:
    """What the ways do with questions that are on their way together."""
    out = []
    async with ScriptedUpstream(held(respond)) as upstream:
        for short in (True, False):
            upstream.asked.clear()
            with Outside(body, upstream, short=short) as outside:
                replies = [shape(wire) for wire in await two_clients(outside, upstream, *packets)]
                out.append(
                    Seen(replies, [(m.name, m.edns) for m, _ in upstream.asked], outside.entries(), outside.increments(), outside.relayed)
                )
                assert len(outside.in_flight) == 0
    return out[0], out[1]


@pytest.mark.parametrize(
    ("packets", "relayed"),
    [
        pytest.param([query(), query()], 2, id="spelled alike"),
        pytest.param([query(), query(flags=dns.flags.AD)], 2, id="one with AD"),
        pytest.param([query(), query("wWw.example.org.")], 1, id="spelled otherwise"),
        pytest.param([query("WWW.example.org."), query(), query("WWW.example.org.")], 2, id="the first spelled otherwise"),
    ],
)
@pytest.mark.parametrize(
    "respond",
    [
        pytest.param(saying(A), id="an address"),
        pytest.param(saying(authority=[SOA], rcode=3), id="a denial"),
        pytest.param(saying(A, additional=["x.example.org. 60 IN A 192.0.2.9"]), id="not plain"),
        pytest.param(saying(rcode=2), id="a failure"),
    ],
)
async def test_one_question_for_all(packets: Sequence[bytes], relayed: int, respond: Respond) -> None:
    """Who asks for the same meanwhile waits for the same reply, and gets it in the spelling of the upstream; each is counted."""
    short, long = await together(PLAIN, respond, *packets)
    plain = short.relayed > 0
    alike(short, long, relayed if plain else 0)
    assert len(short.asked) == 1


async def test_a_reply_too_large_for_two() -> None:
    """Each gets what fits."""
    for packets in ([query(), query()], [query(use_edns=0, payload=600), query(use_edns=0, payload=600)]):
        alike(*await together(PLAIN, saying(*MANY), *packets), 0)


@pytest.mark.parametrize("first", [0, 1])
async def test_the_long_way_and_the_short_one_meet(first: int) -> None:
    """Who asks for the same on the other way, here with an octet behind the question, waits for the same reply."""
    packets = (query(), query() + b"\0")
    short, long = await together(PLAIN, saying(A), packets[first], packets[1 - first])
    alike(short, long, 1)
    assert len(short.asked) == 1


async def test_too_many_at_once() -> None:
    """They are refused, on either way."""
    body = "prometheus\nerrors\ncache 30\nforward . {} {{\nmax_concurrent 1\n}}"
    for packets in ([query(), query("b.example.org.")], [query(use_edns=0), query(use_edns=0)]):
        short, long = await together(body, saying(A), *packets)
        alike(short, long, 1)
        assert [reply[1] for reply in short.replies] == ["0", str(int(dns.rcode.REFUSED))]


async def test_too_many_of_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are refused, whatever port they come from."""
    monkeypatch.setattr("svcdns.plugins.forward.single_flight.MAX_OF_CLIENT", 2)
    short, long = await together(PLAIN, saying(A), query(), query("b.example.org."), query())
    alike(short, long, 1)
    assert [reply[1] for reply in short.replies] == ["0", "0", str(int(dns.rcode.REFUSED))]


@pytest.mark.parametrize("packet", [pytest.param(packet, id=name) for name, packet in QUESTION.items()])
async def test_nobody_answers_in_time(packet: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """SERVFAIL, which is logged and not kept, and nothing is left on its way."""
    body = "prometheus\nerrors\ncache 30\nforward . {} {{\nmax_fails 0\n}}"
    out, logs = [], []
    async with ScriptedUpstream(silence) as upstream:
        for short in (True, False):
            caplog.clear()
            with Outside(body, upstream, short=short) as outside, caplog.at_level(logging.ERROR):
                outside.send(packet)
                await upstream.question()
                assert len(outside.in_flight) == 1
                for _ in range(4):
                    await outside.turn(2)
                reply = shape(await outside.reply())
                out.append(Seen([reply], [], outside.entries(), outside.increments(), outside.relayed))
                logs.append([record.getMessage() for record in caplog.records])
                assert len(outside.in_flight) == 0
    alike(out[0], out[1], 0)
    assert logs[0] == logs[1] != []


async def test_the_next_upstream() -> None:
    """One that fails is passed over: the short way is as long as the question needs."""
    async with ScriptedUpstream(saying(rcode=2)) as first, ScriptedUpstream(saying(A)) as second:
        with Outside("prometheus\ncache 30\nforward . {} {} {{\npolicy sequential\n}}", first, second) as outside:
            assert "www.example.org. 30 IN A 192.0.2.1" in shape(await outside.ask(query()))
            assert outside.relayed == 1
        second.respond = saying(authority=[SOA], rcode=3)
        body = "prometheus\ncache 30\nforward . {} {} {{\npolicy sequential\nfailover NXDOMAIN\n}}"
        with Outside(body, second, first) as outside:
            assert shape(await outside.ask(query()))[1] == "2"
            assert outside.relayed == 0


async def test_over_tcp_where_upstreams_want_it() -> None:
    """As long as the client came over UDP: with `force_tcp`, and where a reply of `prefer_udp` is cut off."""

    def cut(asked: dns.message.Message, transport: str) -> Any:
        return saying(*([] if transport == "udp" else [A]), flags=dns.flags.TC if transport == "udp" else 0)(asked, transport)

    for option, asked in (("force_tcp", 1), ("prefer_udp", 2)):
        body = "prometheus\ncache 30\nforward . {} {{\n" + option + "\n}}"
        short, long = await both_ways(body, cut, query(), query())
        alike(short, long, 1)
        assert len(short.asked) == asked


@pytest.fixture
async def failing(caplog: pytest.LogCaptureFixture) -> AsyncIterator[tuple[Outside, ScriptedUpstream]]:
    """A listener whose cache fails for the first reply that it is to keep, and an upstream that holds its replies."""
    async with ScriptedUpstream(held(saying(A))) as upstream:
        with Outside(PLAIN, upstream) as outside, caplog.at_level(logging.ERROR):
            fast_path, first = outside.route.fast_path, [True]
            assert fast_path is not None
            assert fast_path.keep is not None
            keep = fast_path.keep

            def broken(key: Key, plain: SimpleReply) -> int:
                if first.pop() if first else False:
                    raise LookupError("broken")
                return keep(key, plain)

            fast_path.keep = broken
            yield outside, upstream


async def test_a_failure_does_not_spread(failing: tuple[Outside, ScriptedUpstream], caplog: pytest.LogCaptureFixture) -> None:
    """It is logged and counted; who waits for the same reply gets it."""
    outside, upstream = failing
    with bound() as client, bound() as other:
        outside.send(query(), client)
        outside.send(query(), other)
        await upstream.question()
        upstream.release()
        assert "www.example.org. 30 IN A 192.0.2.1" in shape(await outside.reply(other))
    assert outside.increments()["coredns_panics_total",] == (1.0,)
    assert len(outside.in_flight) == 0
    assert "Recovered from a failure" in caplog.text


async def test_whom_a_failure_hits(failing: tuple[Outside, ScriptedUpstream]) -> None:
    """Is told, as by the chain."""
    outside, upstream = failing
    outside.send(query())
    await upstream.question()
    upstream.release()
    async with asyncio.timeout(1):
        assert shape(await outside.reply())[1] == "2"


async def test_a_failure_when_it_leaves(caplog: pytest.LogCaptureFixture) -> None:
    """Is told too: one bad question ends neither a batch nor the process."""
    async with ScriptedUpstream(saying(A)) as upstream:
        with Outside(PLAIN, upstream) as outside, caplog.at_level(logging.ERROR):
            fast_path = outside.route.fast_path
            assert fast_path is not None

            def ask(_: FastPathQuery) -> None:
                raise LookupError("broken")

            fast_path.ask = ask
            assert shape(await outside.ask(query()))[1] == "2"
            assert len(outside.in_flight) == 0


async def test_a_reply_for_a_socket_that_is_closed() -> None:
    """Goes nowhere: not through the socket that has the number of its descriptor now, either."""
    async with ScriptedUpstream(held(saying(A))) as upstream:
        with Outside(PLAIN, upstream) as outside, bound() as other:
            outside.send(query())
            await upstream.question()
            number = outside.sock.fileno()
            outside.sock.close()
            os.dup2(other.fileno(), number)
            try:
                upstream.release()
                async with asyncio.timeout(10):
                    while outside.in_flight:
                        await asyncio.sleep(0)
                await asyncio.sleep(0)
                with pytest.raises(BlockingIOError):
                    outside.client.recv(512)
            finally:
                os.close(number)
