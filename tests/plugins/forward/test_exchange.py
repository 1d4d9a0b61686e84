"""How an exchange chooses among several upstreams. The test moves the clock."""

from __future__ import annotations

import asyncio
from typing import Literal

import dns.flags
import dns.message
import pytest

from svcdns.plugin_api.query import Client
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.forward.exchange import LAST_RESORT_TIMEOUT
from svcdns.plugins.forward.upstream_group import MAX_HEDGES_SAVED, MIN_BUDGET
from svcdns.upstream.health import CIRCUIT_THRESHOLD, SILENCE
from svcdns.wire.codes import OptionCode, Rcode
from svcdns.wire.record import Edns
from tests.support import world
from tests.support.forwarding import Forwarding
from tests.support.scripted_upstream import ScriptedUpstream, answer, header_alone, held, silence

A = "a.example.org. 60 IN A 192.0.2.1"
FIRST = ["NOERROR", A]
SECOND = ["NOERROR", "a.example.org. 60 IN A 192.0.2.2"]
TURNS = "policy round_robin"
"""The second upstream is queried first."""


def queries(upstream: ScriptedUpstream) -> int:
    """Returns the number of queries that the upstream got, without health checks."""
    return sum(message.rtype != 2 for message, _ in upstream.asked)


async def test_a_closed_port_fails_over_immediately(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    upstream.close()
    assert world.summary(await Forwarding(upstream, other).ask()) == SECOND


async def test_an_rcode_of_an_upstream_is_an_answer(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """NXDOMAIN, FORMERR and NOTIMP are returned, and no other upstream is queried."""
    for rcode in (Rcode.NXDOMAIN, Rcode.FORMERR, Rcode.NOTIMP):
        upstream.respond = answer(rcode=rcode)
        assert (await Forwarding(upstream, other).ask()).rcode == rcode
    assert other.asked == []


@pytest.mark.parametrize(
    ("rcode", "body"),
    [
        pytest.param(Rcode.SERVFAIL, "policy sequential", id="SERVFAIL"),
        pytest.param(Rcode.REFUSED, "policy sequential", id="REFUSED"),
        pytest.param(Rcode.NXDOMAIN, "policy sequential\nfailover NXDOMAIN", id="as the option says"),
    ],
)
async def test_failover(upstream: ScriptedUpstream, other: ScriptedUpstream, rcode: int, body: str) -> None:
    """If the rcode is listed in `failover`, the next upstream is queried. The last reply is returned."""
    upstream.respond = answer(rcode=rcode)
    forwarding = Forwarding(upstream, other, body=body)
    assert world.summary(await forwarding.ask()) == SECOND
    other.respond = answer(rcode=2)
    assert (await forwarding.ask("b.example.org.")).rcode == Rcode.SERVFAIL
    assert (len(upstream.asked), len(other.asked)) == (2, 2)


@pytest.mark.parametrize("edns", [None, Edns(size=1232)], ids=["without EDNS", "with EDNS"])
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_an_error_without_a_question_section_is_an_answer(
    upstream: ScriptedUpstream, protocol: Literal["udp", "tcp"], edns: Edns | None
) -> None:
    forwarding = Forwarding(upstream)
    for number, rcode in enumerate((Rcode.FORMERR, Rcode.NOTIMP, Rcode.SERVFAIL, Rcode.REFUSED), 1):
        upstream.respond = header_alone(rcode)
        client = Client("192.0.2.1", 40000, "192.0.2.53", 53, protocol)
        reply = await forwarding.ask(client=client, edns=edns)
        assert (reply.rcode, reply.has_message, reply.answer) == (rcode, True, ())
        assert [by for _, by in upstream.asked] == [protocol] * number
    assert forwarding.servers[0].health.usable


async def test_nsid_is_not_sent_to_an_upstream(upstream: ScriptedUpstream) -> None:
    """NSID is valid for one hop (RFC 5001 §2.1, §3.1). The client's other options are passed on."""
    subnet = OptionCode.CLIENT_SUBNET, b"\0\1\x18\0\xc0\0\2"
    upstream.respond = answer("a.example.org. 60 IN A 192.0.2.1")
    edns = Edns(1232, dnssec_ok=True, options=((OptionCode.NSID, b""), subnet, (65001, b"x")))
    await Forwarding(upstream).ask(edns=edns)
    [(message, _)] = upstream.asked
    assert message.edns == Edns(1232, dnssec_ok=True, options=(subnet, (65001, b"x")))


@pytest.mark.parametrize("rcode", [Rcode.FORMERR, Rcode.NOTIMP])
async def test_an_opt_record_that_a_plugin_added_is_left_out_after_an_error(
    upstream: ScriptedUpstream, rcode: int
) -> None:
    """An upstream that does not know EDNS gets the query again without EDNS. A second error is returned."""
    without_edns, refuses = answer("a.example.org. 60 IN A 192.0.2.1"), header_alone(rcode)
    upstream.respond = lambda query, by: (refuses if query.edns >= 0 else without_edns)(query, by)
    forwarding = Forwarding(upstream)
    reply = await forwarding.ask(edns=Edns(size=1232), edns_added=True)
    assert world.summary(reply) == ["NOERROR", "a.example.org. 60 IN A 192.0.2.1"]
    assert [message.edns is not None for message, _ in upstream.asked] == [True, False]
    upstream.respond = refuses
    assert (await forwarding.ask("b.example.org.", edns=Edns(size=1232), edns_added=True)).rcode == rcode
    assert len(upstream.asked) == 4


async def test_an_error_with_an_opt_record_is_an_answer(upstream: ScriptedUpstream) -> None:
    """The OPT record shows that the upstream knows EDNS, so its FORMERR has another cause."""
    upstream.respond = answer(rcode=1)
    reply = await Forwarding(upstream).ask(edns=Edns(size=1232), edns_added=True)
    assert reply.rcode == Rcode.FORMERR
    assert len(upstream.asked) == 1


async def test_failover_after_an_error_without_a_question_section(
    upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    forwarding = Forwarding(upstream, other)
    for rcode in (Rcode.SERVFAIL, Rcode.REFUSED):
        upstream.respond = header_alone(rcode)
        assert world.summary(await forwarding.ask()) == SECOND
    other.respond = header_alone(Rcode.REFUSED)
    assert (await forwarding.ask("b.example.org.")).rcode == Rcode.REFUSED


async def test_the_last_reply_is_returned_if_the_next_upstream_fails(
    upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    """The client gets the reply of the first upstream, even if its rcode is an error."""
    upstream.respond = answer(rcode=5)
    other.close()
    reply = await Forwarding(upstream, other).ask()
    assert (reply.rcode, reply.has_message) == (Rcode.REFUSED, True)


async def test_sequential_queries_the_next_after_silence(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """With `policy sequential`, the next upstream is queried after `SILENCE` seconds without a reply."""
    upstream.respond = held(answer(A))
    forwarding = Forwarding(upstream, other)
    asking = forwarding.asking()
    await upstream.question()
    await forwarding.turn(SILENCE - 0.02)
    assert other.asked == []
    await forwarding.turn(0.02)
    assert world.summary(await asking) == SECOND
    assert forwarding.counted("svcdns_forward_hedges_total", f"127.0.0.1:{other.port}", "silent") == 1


async def test_sequential_never_queries_the_next_for_slowness(
    upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    """With `policy sequential`, no second query is sent while the upstream answers other queries."""
    upstream.respond = held(answer(A))
    forwarding = Forwarding(upstream, other)
    asking = forwarding.asking()
    await upstream.question()
    slow = upstream.respond
    for number in range(5):
        upstream.respond = answer()
        await forwarding.ask(f"{number}.example.org.")
        await forwarding.turn(0.1)
    upstream.respond = slow
    assert other.asked == []
    upstream.release()
    assert world.summary(await asking) == FIRST


async def make_fast(forwarding: Forwarding) -> None:
    """Sends enough queries that each server has a short usual latency."""
    for number in range(60):
        await forwarding.ask(f"{number}.quick.example.")


async def test_a_second_upstream_is_queried_if_the_first_is_slower_than_usual(
    upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    """The second query is sent long before the first upstream counts as silent."""
    forwarding = Forwarding(upstream, other, body=TURNS)
    await make_fast(forwarding)
    forwarding.clock.turn(1.0)
    other.respond = held(answer(A))
    asking = forwarding.asking()
    while not other.holds:
        await asyncio.sleep(0)
    before = queries(upstream)
    await forwarding.turn(0.01)
    assert queries(upstream) == before
    await forwarding.turn(0.02)
    assert world.summary(await asking) == FIRST
    assert forwarding.counted("svcdns_forward_hedges_total", f"127.0.0.1:{upstream.port}", "silent") == 1
    health = forwarding.servers[1].health
    last_reply = health.last_reply
    other.release()
    while health.last_reply == last_reply:
        await asyncio.sleep(0)
    assert queries(upstream) == before + 1


async def test_slowness_causes_second_queries_for_a_limited_share_of_queries(
    upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    forwarding = Forwarding(upstream, other, body=TURNS)
    await make_fast(forwarding)
    slow = held(answer())
    count = int(MAX_HEDGES_SAVED) + 40
    for scripted in (upstream, other):
        scripted.respond = slow
    waiting = [forwarding.asking(f"{number}.slow.example.") for number in range(count)]
    while upstream.holds + other.holds < count:
        await asyncio.sleep(0)
    forwarding.clock.turn(0.001)
    for server in forwarding.servers:
        server.health.reply_received(forwarding.clock())
    await forwarding.turn(0.03)
    while upstream.holds + other.holds < count + MAX_HEDGES_SAVED:
        await asyncio.sleep(0)
    await forwarding.turn(0.03)
    assert upstream.holds + other.holds == count + MAX_HEDGES_SAVED
    hedges = [
        forwarding.counted("svcdns_forward_hedges_total", f"127.0.0.1:{one.port}", "slow") for one in (upstream, other)
    ]
    assert sum(hedges) == MAX_HEDGES_SAVED
    for scripted in (upstream, other):
        scripted.release()
    await asyncio.gather(*waiting)


async def test_a_single_upstream_is_never_queried_twice_for_slowness(upstream: ScriptedUpstream) -> None:
    upstream.respond = held(answer(A))
    forwarding = Forwarding(upstream, body="policy random")
    asking = forwarding.asking()
    await upstream.question()
    await forwarding.turn(1.5)
    assert queries(upstream) == 1
    upstream.release()
    assert world.summary(await asking) == FIRST


async def test_a_silent_upstream_is_left_out_until_a_health_check_succeeds(
    upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    """The first queries wait briefly before another upstream is queried. Later queries are not sent to the silent
    upstream.
    """
    forwarding = Forwarding(upstream, other)
    upstream.respond = silence
    waiting = [forwarding.asking(f"{number}.example.org.") for number in range(CIRCUIT_THRESHOLD)]
    while queries(upstream) < CIRCUIT_THRESHOLD:
        await asyncio.sleep(0)
    await forwarding.turn(SILENCE)
    assert [reply.rcode for reply in await asyncio.gather(*waiting)] == [Rcode.NOERROR] * CIRCUIT_THRESHOLD
    await forwarding.turn(0.01)
    for number in range(5):
        await forwarding.ask(f"{number}.example.net.")
    assert (queries(upstream), queries(other)) == (CIRCUIT_THRESHOLD, CIRCUIT_THRESHOLD + 5)
    upstream.respond = answer(A)
    await forwarding.turn(0.5)
    async with asyncio.timeout(10):
        while not forwarding.servers[0].health.usable:
            await asyncio.sleep(0)
    assert world.summary(await forwarding.ask()) == FIRST


@pytest.mark.parametrize(
    ("count", "times"),
    [
        pytest.param(1, (2.0, 2.0), id="one upstream"),
        pytest.param(2, (SILENCE, 1.85, SILENCE, SILENCE, 1.85, SILENCE), id="two"),
    ],
)
async def test_all_silent(
    upstream: ScriptedUpstream, other: ScriptedUpstream, count: int, times: tuple[float, ...]
) -> None:
    """The client gets SERVFAIL with an extended error, after at most two queries to each upstream."""
    upstreams = (upstream, other)[:count]
    for server in upstreams:
        server.respond = silence
    forwarding = Forwarding(*upstreams)
    asking = forwarding.asking()
    await upstream.question()
    begun = forwarding.clock()
    for seconds in times:
        assert not asking.done()
        await forwarding.turn(seconds)
    reply = await asyncio.wait_for(asking, 10)
    assert (reply.rcode, reply.has_message, reply.extended) == (Rcode.SERVFAIL, False, 22)
    assert reply.error.endswith(": i/o timeout")
    assert forwarding.clock() - begun < MIN_BUDGET
    assert [queries(server) for server in upstreams] == [2] * count


async def test_all_known_to_be_silent(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """If the circuits of all upstreams are open, one upstream is queried with a short timeout."""
    forwarding = Forwarding(upstream, other)
    for one, server in zip((upstream, other), forwarding.servers, strict=True):
        one.respond = silence
        for _ in range(CIRCUIT_THRESHOLD):
            server.query_failed()
    asking = forwarding.asking()
    while queries(upstream) + queries(other) == 0:
        await asyncio.sleep(0)
    await forwarding.turn(LAST_RESORT_TIMEOUT)
    reply = await asyncio.wait_for(asking, 10)
    assert (reply.rcode, reply.extended) == (Rcode.SERVFAIL, 22)
    assert queries(upstream) + queries(other) == 1
    assert forwarding.counted("coredns_forward_healthcheck_broken_total") == 1
    upstream.respond = other.respond = answer()
    assert (await forwarding.ask("b.example.org.")).rcode == Rcode.NOERROR
    assert any(server.health.usable for server in forwarding.servers)


async def test_many_queries_while_no_upstream_is_usable(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svcdns.plugins.forward.upstream_group.MAX_LAST_RESORTS", 2)
    upstream.respond = silence
    forwarding = Forwarding(upstream)
    forwarding.servers[0].health.failed_checks = 9
    waiting = [forwarding.asking(f"{number}.example.org.") for number in range(3)]
    reply = await waiting[2]
    assert (reply.rcode, reply.has_message, reply.extended, reply.error) == (
        Rcode.SERVFAIL,
        False,
        22,
        "no healthy proxies",
    )
    await upstream.question()
    await upstream.question()
    assert not any(task.done() for task in waiting[:2])
    await forwarding.turn(LAST_RESORT_TIMEOUT)
    assert [reply.rcode for reply in await asyncio.gather(*waiting[:2])] == [Rcode.SERVFAIL] * 2
    assert queries(upstream) == 2
    upstream.respond = answer(A)
    assert world.summary(await forwarding.ask()) == FIRST


async def test_all_refused(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """If the ports of all upstreams are closed, the client gets SERVFAIL. The last reason is logged."""
    upstream.close()
    other.close()
    reply = await Forwarding(upstream, other).ask()
    assert (reply.rcode, reply.has_message, reply.extended) == (Rcode.SERVFAIL, False, 23)
    assert reply.error.endswith("connection refused")


async def test_no_more_attempts_than_allowed(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    upstream.respond = silence
    forwarding = Forwarding(upstream, other, body="policy sequential\nmax_connect_attempts 1")
    asking = forwarding.asking()
    await upstream.question()
    await forwarding.turn(SILENCE)
    await forwarding.turn(2.0)
    assert (await asking).rcode == Rcode.SERVFAIL
    assert other.asked == []


@pytest.mark.parametrize(
    ("body", "rcode"),
    [
        pytest.param("max_fails 1", Rcode.NOERROR, id="one is queried all the same"),
        pytest.param("max_fails 1\nfailfast_all_unhealthy_upstreams", Rcode.SERVFAIL, id="fail fast"),
    ],
)
async def test_when_all_are_down(upstream: ScriptedUpstream, body: str, rcode: int) -> None:
    """The case is counted, with and without `failfast_all_unhealthy_upstreams`."""
    forwarding = Forwarding(upstream, body=body)
    for server in forwarding.servers:
        server.health.failed_checks = 5
    assert (await forwarding.ask()).rcode == rcode
    assert forwarding.counted("coredns_forward_healthcheck_broken_total") == 1


async def test_never_left_out_with_max_fails_0(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """Each query is sent to the silent upstream, and waits for a reply."""
    upstream.respond = silence
    forwarding = Forwarding(upstream, other, body="policy sequential\nmax_fails 0")
    for number in range(2 * CIRCUIT_THRESHOLD):
        asking = forwarding.asking(f"{number}.example.org.")
        await upstream.question()
        await forwarding.turn(SILENCE)
        assert (await asking).rcode == Rcode.NOERROR
    assert len(upstream.asked) == 2 * CIRCUIT_THRESHOLD


async def test_a_refusal_waits_for_an_open_attempt(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """A better reply than the error may still come from the other upstream."""
    upstream.respond = held(answer(rcode=2))
    other.respond = held(answer("a.example.org. 60 IN A 192.0.2.2"))
    forwarding = Forwarding(upstream, other)
    asking = forwarding.asking()
    await upstream.question()
    await forwarding.turn(SILENCE)
    await other.question()
    upstream.release()
    async with asyncio.timeout(10):
        while len(forwarding.servers[0]._sockets):
            await asyncio.sleep(0)
    assert not asking.done()
    other.release()
    assert world.summary(await asking) == SECOND


async def test_round_robin(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """The policy `round_robin` queries both upstreams equally often."""
    forwarding = Forwarding(upstream, other, body=TURNS)
    for number in range(4):
        await forwarding.ask(f"{number}.example.org.")
    assert (len(upstream.asked), len(other.asked)) == (2, 2)


async def test_a_truncated_reply_of_the_second_upstream(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """With `prefer_udp`, the query is repeated over TCP at the upstream that truncated its reply."""
    upstream.close()
    other.respond = lambda query, transport: answer(A, flags=dns.flags.TC if transport == "udp" else 0)(
        query, transport
    )
    forwarding = Forwarding(upstream, other, body="policy sequential\nprefer_udp")
    assert world.summary(await forwarding.ask()) == FIRST
    assert other.transports == ["udp", "tcp"]


def lying(query: dns.message.Message, _transport: str) -> bytes:
    """Returns a reply with a wrong message ID."""
    return (query.id ^ 1).to_bytes(2, "big") + bytes(10)


async def settle(forwarding: Forwarding, asking: asyncio.Task[Reply], seconds: float = 1.0) -> Reply:
    """Moves the clock in small steps until the reply comes, but at most by `seconds`. Returns the reply."""
    for _ in range(int(seconds / 0.02)):
        if asking.done():
            break
        await forwarding.turn(0.01)
    return await asyncio.wait_for(asking, 10)


async def test_a_lie_moves_the_query_to_tcp(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """After a wrong packet over UDP, the query is repeated over TCP at the same upstream."""
    true = answer(A)
    upstream.respond = lambda query, by: (lying if by == "udp" else true)(query, by)
    forwarding = Forwarding(upstream, other)
    asking = forwarding.asking()
    await upstream.question()
    assert world.summary(await settle(forwarding, asking)) == FIRST
    assert (upstream.transports, other.asked) == (["udp", "tcp"], [])


async def test_an_upstream_that_only_lies(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """The upstream gets a query over UDP and one over TCP. Then the next upstream gets a query."""
    upstream.respond = lying
    forwarding = Forwarding(upstream, other)
    asking = forwarding.asking()
    await upstream.question()
    assert world.summary(await settle(forwarding, asking)) == SECOND
    assert (upstream.transports[:2], queries(upstream), queries(other)) == (["udp", "tcp"], 2, 1)


async def test_upstreams_that_only_lie(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """Each upstream gets one query over UDP and one over TCP. The error has the reason."""
    upstream.respond = other.respond = lying
    forwarding = Forwarding(upstream, other, body="policy sequential\nhealth_check 0s")
    asking = forwarding.asking()
    await upstream.question()
    reply = await settle(forwarding, asking)
    assert reply.rcode == Rcode.SERVFAIL
    assert "no valid reply: id" in reply.error
    assert (queries(upstream), queries(other)) == (2, 2)


async def test_without_edns_at_the_same_upstream(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """If an upstream does not know EDNS, the same upstream gets the query without the OPT record that a
    plugin added.
    """
    refuses = header_alone(Rcode.FORMERR)
    for one in (upstream, other):
        one.respond = lambda query, by: (refuses if query.edns >= 0 else answer(A))(query, by)
    forwarding = Forwarding(upstream, other, body=TURNS)
    for number in range(4):
        await forwarding.ask(f"{number}.example.org.", edns=Edns(size=1232), edns_added=True)
    for one in (upstream, other):
        assert [(m.name[1:2], m.edns is not None) for m, _ in one.asked] in (
            [(b"0", True), (b"0", False), (b"2", True), (b"2", False)],
            [(b"1", True), (b"1", False), (b"3", True), (b"3", False)],
        )


async def test_a_client_with_edns_of_its_own_does_not_share_the_retry(upstream: ScriptedUpstream) -> None:
    """An OPT record that a plugin added may be left out after an error. An OPT record of the client may not."""
    refuses = header_alone(Rcode.FORMERR)
    upstream.respond = held(lambda query, by: (refuses if query.edns >= 0 else answer(A))(query, by))
    forwarding = Forwarding(upstream)
    own = forwarding.asking(edns=Edns(size=1232))
    added = forwarding.asking(edns=Edns(size=1232), edns_added=True)
    while not (own.done() and added.done()):
        upstream.release()
        await asyncio.sleep(0)
    assert ((await own).rcode, world.summary(await added)) == (Rcode.FORMERR, FIRST)
    assert len(upstream.asked) == 3


async def test_at_most_three_queries_in_the_ordinary_case(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """At most three upstreams get a query while the slow upstreams answer other queries."""
    async with ScriptedUpstream() as third, ScriptedUpstream() as fourth, ScriptedUpstream() as fifth:
        upstreams = [upstream, other, third, fourth, fifth]
        for one in upstreams:
            one.respond = lambda query, by: (held(answer(A)) if b"slow" in query.to_wire() else answer())(query, by)
        forwarding = Forwarding(*upstreams, body=TURNS)
        asking = forwarding.asking("slow.example.org.")
        for number in range(40):
            await forwarding.turn(0.01)
            await forwarding.ask(f"{number}.example.org.")
        assert sum(b"slow" in message.name for one in upstreams for message, _ in one.asked) == 3
        for one in upstreams:
            one.release()
        await asking
