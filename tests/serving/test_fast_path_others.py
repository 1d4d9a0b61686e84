"""The fast path with timeouts, concurrent queries and failures."""

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

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.fast_path import FastPathQuery, Key
from svcdns.wire.simple_reply import SimpleReply
from tests.support.outside import NAME, PLAIN, Outside, Seen, assert_same, both_ways, query, replying, shape
from tests.support.responder import bound
from tests.support.scripted_upstream import Respond, ScriptedUpstream, held, silence

A = f"{NAME} 300 IN A 192.0.2.1"
MANY = tuple(f"{NAME} 300 IN A 192.0.2.{number}" for number in range(1, 41))
"""More than 512 octets, and less than 1232."""
SOA = "example.org. 90 IN SOA ns.example.org. host.example.org. 1 7200 3600 1209600 60"
QUERIES = {"one": query(), "AD": query(flags=dns.flags.AD), "EDNS": query(use_edns=0), "DO": query(want_dnssec=True)}


async def two_clients(outside: Outside, upstream: ScriptedUpstream, *packets: bytes) -> list[bytes]:
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
    """Sends concurrent queries, first with the fast path and then without it. Returns the effects of both runs."""
    out = []
    async with ScriptedUpstream(held(respond)) as upstream:
        for fast in (True, False):
            upstream.asked.clear()
            with Outside(body, upstream, fast=fast) as outside:
                replies = [shape(wire) for wire in await two_clients(outside, upstream, *packets)]
                out.append(
                    Seen(
                        replies,
                        [(m.name, m.edns) for m, _ in upstream.asked],
                        outside.entries(),
                        outside.increments(),
                        outside.on_fast_path,
                    )
                )
                assert len(outside.in_flight) == 0
    return out[0], out[1]


@pytest.mark.parametrize(
    ("packets", "on_fast_path"),
    [
        pytest.param([query(), query()], 2, id="spelled assert_same"),
        pytest.param([query(), query(flags=dns.flags.AD)], 2, id="one with AD"),
        pytest.param([query(), query("wWw.example.org.")], 1, id="spelled otherwise"),
        pytest.param(
            [query("WWW.example.org."), query(), query("WWW.example.org.")], 2, id="the first spelled otherwise"
        ),
    ],
)
@pytest.mark.parametrize(
    "respond",
    [
        pytest.param(replying(A), id="an address"),
        pytest.param(replying(authority=[SOA], rcode=3), id="a denial"),
        pytest.param(replying(A, additional=["x.example.org. 60 IN A 192.0.2.9"]), id="not plain"),
        pytest.param(replying(rcode=2), id="a failure"),
    ],
)
async def test_identical_concurrent_queries_share_an_upstream_query(
    packets: Sequence[bytes], on_fast_path: int, respond: Respond
) -> None:
    fast, slow = await together(PLAIN, respond, *packets)
    plain = fast.on_fast_path > 0
    assert_same(fast, slow, on_fast_path if plain else 0)
    assert len(fast.asked) == 1


async def test_a_reply_too_large_for_both_clients() -> None:
    for packets in ([query(), query()], [query(use_edns=0, payload=600), query(use_edns=0, payload=600)]):
        assert_same(*await together(PLAIN, replying(*MANY), *packets), 0)


@pytest.mark.parametrize("first", [0, 1])
async def test_fast_path_and_chain_share_an_upstream_query(first: int) -> None:
    packets = (query(), query() + b"\0")
    fast, slow = await together(PLAIN, replying(A), packets[first], packets[1 - first])
    assert_same(fast, slow, 1)
    assert len(fast.asked) == 1


async def test_too_many_concurrent_queries() -> None:
    body = "prometheus\nerrors\ncache 30\nforward . {} {{\nmax_concurrent 1\n}}"
    for packets in ([query(), query("b.example.org.")], [query(use_edns=0), query(use_edns=0)]):
        fast, slow = await together(body, replying(A), *packets)
        assert_same(fast, slow, 1)
        assert [reply[1] for reply in fast.replies] == ["0", str(int(dns.rcode.REFUSED))]


async def test_too_many_concurrent_queries_of_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client is an address, whatever its source ports are. Queries above `MAX_OF_CLIENT` get REFUSED."""
    monkeypatch.setattr("svcdns.plugins.forward.single_flight.MAX_OF_CLIENT", 2)
    fast, slow = await together(PLAIN, replying(A), query(), query("b.example.org."), query())
    assert_same(fast, slow, 1)
    assert [reply[1] for reply in fast.replies] == ["0", "0", str(int(dns.rcode.REFUSED))]


@pytest.mark.parametrize("packet", [pytest.param(packet, id=name) for name, packet in QUERIES.items()])
async def test_no_upstream_answers_in_time(packet: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """The client gets SERVFAIL, which is logged and not cached. No query stays in flight."""
    body = "prometheus\nerrors\ncache 30\nforward . {} {{\nmax_fails 0\n}}"
    out, logs = [], []
    async with ScriptedUpstream(silence) as upstream:
        for fast in (True, False):
            caplog.clear()
            with Outside(body, upstream, fast=fast) as outside, caplog.at_level(logging.ERROR):
                outside.send(packet)
                await upstream.question()
                assert len(outside.in_flight) == 1
                for _ in range(4):
                    await outside.turn(2)
                reply = shape(await outside.reply())
                out.append(Seen([reply], [], outside.entries(), outside.increments(), outside.on_fast_path))
                logs.append([record.getMessage() for record in caplog.records])
                assert len(outside.in_flight) == 0
    assert_same(out[0], out[1], 0)
    assert logs[0] == logs[1] != []


async def test_the_next_upstream() -> None:
    async with ScriptedUpstream(replying(rcode=2)) as first, ScriptedUpstream(replying(A)) as second:
        with Outside("prometheus\ncache 30\nforward . {} {} {{\npolicy sequential\n}}", first, second) as outside:
            assert "www.example.org. 30 IN A 192.0.2.1" in shape(await outside.ask(query()))
            assert outside.on_fast_path == 1
        second.respond = replying(authority=[SOA], rcode=3)
        body = "prometheus\ncache 30\nforward . {} {} {{\npolicy sequential\nfailover NXDOMAIN\n}}"
        with Outside(body, second, first) as outside:
            assert shape(await outside.ask(query()))[1] == "2"
            assert outside.on_fast_path == 0


async def test_upstream_queries_over_tcp() -> None:
    """The fast path sends queries over TCP with `force_tcp`, and with `prefer_udp` after a truncated reply."""

    def cut(asked: dns.message.Message, transport: str) -> Any:
        return replying(*([] if transport == "udp" else [A]), flags=dns.flags.TC if transport == "udp" else 0)(
            asked, transport
        )

    for option, asked in (("force_tcp", 1), ("prefer_udp", 2)):
        body = "prometheus\ncache 30\nforward . {} {{\n" + option + "\n}}"
        fast, slow = await both_ways(body, cut, query(), query())
        assert_same(fast, slow, 1)
        assert len(fast.asked) == asked


@pytest.fixture
async def failing(caplog: pytest.LogCaptureFixture) -> AsyncIterator[tuple[Outside, ScriptedUpstream]]:
    """Starts a listener whose cache raises for the first reply. The upstream waits before it replies."""
    async with ScriptedUpstream(held(replying(A))) as upstream:
        with Outside(PLAIN, upstream) as outside, caplog.at_level(logging.ERROR):
            fast_path, first = outside.route.fast_path, [True]
            assert fast_path is not None
            assert fast_path.keep is not None
            keep = fast_path.keep

            def broken(key: Key, plain: SimpleReply, dependencies: tuple[Dependency, ...], changes: int) -> int:
                if first.pop() if first else False:
                    raise LookupError("broken")
                return keep(key, plain, dependencies, changes)

            fast_path.keep = broken
            yield outside, upstream


async def test_other_queries_are_answered_after_a_failure(
    failing: tuple[Outside, ScriptedUpstream], caplog: pytest.LogCaptureFixture
) -> None:
    """The failure is an exception while the reply is cached."""
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


async def test_the_query_whose_reply_cannot_be_cached_gets_servfail(failing: tuple[Outside, ScriptedUpstream]) -> None:
    outside, upstream = failing
    outside.send(query())
    await upstream.question()
    upstream.release()
    assert shape(await outside.reply())[1] == "2"


async def test_a_failure_before_the_upstream_query(caplog: pytest.LogCaptureFixture) -> None:
    async with ScriptedUpstream(replying(A)) as upstream:
        with Outside(PLAIN, upstream) as outside, caplog.at_level(logging.ERROR):
            fast_path = outside.route.fast_path
            assert fast_path is not None

            def ask(_: FastPathQuery) -> None:
                raise LookupError("broken")

            fast_path.ask = ask
            assert shape(await outside.ask(query()))[1] == "2"
            assert len(outside.in_flight) == 0


async def test_a_reply_for_a_socket_that_is_closed() -> None:
    """The reply is not sent, even if another socket has the same descriptor now."""
    async with ScriptedUpstream(held(replying(A))) as upstream:
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
