"""Identical concurrent queries share one exchange."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.query import Client
from svcdns.plugin_api.reply import Reply
from svcdns.wire.codes import Rcode
from tests.support import world
from tests.support.forwarding import Forwarding
from tests.support.scripted_upstream import ScriptedUpstream, answer, held

A = "a.example.org. 60 IN A 192.0.2.1"


async def test_a_waiter_that_raises_does_not_affect_the_others(upstream: ScriptedUpstream) -> None:
    """The exception is reported to the event loop. At the end, no client is counted as waiting."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    upstream.respond = held(answer(A))
    forwarding = Forwarding(upstream)
    first = forwarding.asking()

    def broken(_: object) -> None:
        raise ValueError("broken")

    await upstream.question()
    failing = forwarding.plugin.handle(world.query("a.example.org."), world.following())
    assert isinstance(failing, Deferred)
    failing.take(broken, broken)
    last = forwarding.asking()
    await asyncio.sleep(0)
    upstream.release()
    assert [world.summary(reply) for reply in await asyncio.gather(first, last)] == [["NOERROR", A]] * 2
    assert [str(context["exception"]) for context in reported] == ["broken"]
    assert len(upstream.asked) == 1
    single_flight = forwarding.plugin._rules[0]._single_flight
    assert (single_flight._waiting, single_flight._clients, single_flight._exchanges) == (0, {}, {})


@pytest.mark.parametrize(
    ("body", "most"), [("max_concurrent 8", 4096), ("max_concurrent 0", 8)], ids=["max_concurrent", "exchanges"]
)
async def test_a_client_with_few_queries_finds_room(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, body: str, most: int
) -> None:
    """At the limit, the client with the most queries loses its newest query to a client with fewer queries. A client
    with as many queries as the others is refused.
    """
    monkeypatch.setattr("svcdns.plugins.forward.single_flight.MAX_EXCHANGES", most)
    upstream.respond = held(answer(A))
    forwarding = Forwarding(upstream, body=body)

    def ask(number: int, client: str) -> asyncio.Task[Reply]:
        return forwarding.asking(f"n{number}.example.org.", client=Client(client, 40000, "192.0.2.53", 53, "udp"))

    flood = [ask(number, "192.0.2.66") for number in range(12)]
    others = [ask(100 + number, f"192.0.2.{number}") for number in range(3)]
    async with asyncio.timeout(10):
        while upstream.holds < 11:
            await asyncio.sleep(0)
    assert [one.done() for one in flood] == [False] * 5 + [True] * 7
    assert [(await one).rcode for one in flood[5:]] == [Rcode.REFUSED] * 7
    assert not any(one.done() for one in others)
    assert forwarding.counted("svcdns_forward_shed_queries_total") == 3
    assert forwarding.counted("coredns_forward_max_concurrent_rejects_total") == 4
    upstream.release()
    assert [(await one).rcode for one in (*flood[:5], *others)] == [Rcode.NOERROR] * 8
    single_flight = forwarding.plugin._rules[0]._single_flight
    assert (single_flight._waiting, single_flight._clients, single_flight._exchanges) == (0, {}, {})


async def test_the_addresses_of_an_ipv6_network_are_one_client(upstream: ScriptedUpstream) -> None:
    """The network has a prefix of 64 bits."""
    upstream.respond = held(answer(A))
    forwarding = Forwarding(upstream, body="max_concurrent 4")
    flood = [
        forwarding.asking(
            f"n{number}.example.org.", client=Client(f"2001:db8::{number}", 40000, "2001:db8::53", 53, "udp", 2)
        )
        for number in range(6)
    ]
    other = forwarding.asking(
        "other.example.org.", client=Client("2001:db8:0:1::1", 40000, "2001:db8::53", 53, "udp", 2)
    )
    async with asyncio.timeout(10):
        while upstream.holds < 5:
            await asyncio.sleep(0)
    assert [one.done() for one in (*flood, other)] == [False] * 3 + [True] * 3 + [False]
    upstream.release()
    assert [(await one).rcode for one in (*flood[:3], other)] == [Rcode.NOERROR] * 4


@pytest.mark.parametrize(
    ("searched", "sent", "rcodes"),
    [(3, 8, [Rcode.NOERROR, Rcode.REFUSED]), (4, 9, [Rcode.REFUSED, Rcode.NOERROR])],
    ids=["not found", "found"],
)
async def test_the_search_for_room_is_bounded(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, searched: int, sent: int, rcodes: list[int]
) -> None:
    """Only the MAX_SEARCHED newest exchanges are searched for a query of the busiest client. If none is found, the
    other client is refused.

    `sent` is the number of upstream queries. `rcodes` are those of the busiest client's newest query and of the other
    client.
    """
    monkeypatch.setattr("svcdns.plugins.forward.single_flight.MAX_SEARCHED", searched)
    upstream.respond = held(answer(A))
    forwarding = Forwarding(upstream, body="max_concurrent 8")
    sources = ["192.0.2.66"] * 5 + [f"192.0.2.{number}" for number in range(4)]
    asked = [
        forwarding.asking(f"n{number}.example.org.", client=Client(source, 40000, "192.0.2.53", 53, "udp"))
        for number, source in enumerate(sources)
    ]
    async with asyncio.timeout(10):
        while upstream.holds < sent:
            await asyncio.sleep(0)
    upstream.release()
    found = [(await one).rcode for one in asked]
    assert found == [Rcode.NOERROR] * 4 + rcodes[:1] + [Rcode.NOERROR] * 3 + rcodes[1:]
