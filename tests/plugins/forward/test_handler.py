"""The plugin `forward` (spec C-forward), against upstreams on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import dns.flags
import dns.message
import pytest

from svcdns.chain.query import Client
from svcdns.plugins.forward import Forward, gather
from svcdns.telemetry.clock import monotonic
from svcdns.telemetry.counters import Counters
from svcdns.wire.codes import RA, TC, Rcode
from svcdns.wire.reply import Reply
from tests.support import world
from tests.support.scripted_upstream import ScriptedUpstream, answer, silence

A = "a.example.org. 60 IN A 192.0.2.1"
OVER_TCP = Client("192.0.2.1", 40000, "192.0.2.53", 53, "tcp")


class Forwarding:
    """The plugin with its upstreams."""

    def __init__(self, *upstreams: ScriptedUpstream, zone: str = ".", body: str = "policy sequential") -> None:
        """`body` is the directive's."""
        places = " ".join(f"127.0.0.1:{upstream.port}" for upstream in upstreams)
        self.counters = Counters()
        read = world.options("forward", f"forward {zone} {places} {{\n{body}\n}}")
        self.kept: dict[Any, Any] = {}

        def kept(key: Any, make: Any) -> Any:
            return self.kept.setdefault(key, None) or self.kept.update({key: make()}) or self.kept[key]

        self.plugin = Forward(read, world.environment(counters=self.counters, clock=monotonic, kept=kept))

    async def ask(self, name: str = "a.example.org.", rtype: str = "A", **fields: Any) -> Reply:
        """The answer to a question."""
        query = world.query(name, rtype, **fields)
        return await world.soon(self.plugin.handle(query, world.following(Reply(rcode=Rcode.NXDOMAIN))))

    def stop(self) -> None:
        """Ends what it has open."""
        for server in self.kept.values():
            server.stop()


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An upstream that knows one name."""
    async with ScriptedUpstream(answer(A)) as server:
        yield server


@pytest.fixture
async def other() -> AsyncIterator[ScriptedUpstream]:
    """Another one, with another answer."""
    async with ScriptedUpstream(answer("a.example.org. 60 IN A 192.0.2.2")) as server:
        yield server


async def test_passes_the_answer_on(upstream: ScriptedUpstream) -> None:
    """Records and flags; nothing of it is to be reused."""
    reply = await Forwarding(upstream).ask()
    assert world.summary(reply) == ["NOERROR", A]
    assert reply.flags & RA
    assert reply.lifetime == 0.0


async def test_names_of_other_zones_go_on(upstream: ScriptedUpstream) -> None:
    """And those that are excepted, but never the zone itself."""
    forwarding = Forwarding(upstream, zone="example.org", body="except sub.example.org example.org")
    assert (await forwarding.ask("a.example.net.")).rcode == Rcode.NXDOMAIN
    assert (await forwarding.ask("x.sub.example.org.")).rcode == Rcode.NXDOMAIN
    upstream.respond = answer()
    assert (await forwarding.ask("example.org.")).rcode == Rcode.NOERROR
    assert len(upstream.asked) == 1


async def test_the_next_upstream_is_asked_where_one_refuses_the_connection(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """At once; the client gets the other's answer."""
    upstream.close()
    forwarding = Forwarding(upstream, other)
    assert world.summary(await forwarding.ask()) == ["NOERROR", "a.example.org. 60 IN A 192.0.2.2"]
    forwarding.stop()


async def test_the_next_upstream_is_asked_where_one_is_silent(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """After its time is over."""
    upstream.respond = silence
    forwarding = Forwarding(upstream, other, body="policy sequential\nread_timeout 50ms")
    assert world.summary(await forwarding.ask()) == ["NOERROR", "a.example.org. 60 IN A 192.0.2.2"]
    forwarding.stop()


async def test_servfail_when_nobody_answers(upstream: ScriptedUpstream) -> None:
    """With the last reason, for the log."""
    upstream.close()
    forwarding = Forwarding(upstream)
    reply = await forwarding.ask()
    assert (reply.rcode, reply.written) == (Rcode.SERVFAIL, False)
    assert reply.error == f"127.0.0.1:{upstream.port}: connection refused"
    forwarding.stop()


async def test_an_rcode_of_an_upstream_is_an_answer(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """SERVFAIL and NXDOMAIN are passed on; nobody else is asked."""
    for rcode in (Rcode.SERVFAIL, Rcode.NXDOMAIN, Rcode.REFUSED):
        upstream.respond = answer(rcode=rcode)
        assert (await Forwarding(upstream, other).ask()).rcode == rcode
    assert other.asked == []


class Two:
    """Two *forward* lines in one block."""

    def __init__(self, first: ScriptedUpstream, second: ScriptedUpstream, body: str, zone: str = ".") -> None:
        """`body` is the first one's; `zone` the second one's."""
        text = f"forward . 127.0.0.1:{first.port} {{\n{body}\n}}\nforward {zone} 127.0.0.1:{second.port}"
        self.plugin = Forward(world.options("forward", text), world.environment(clock=monotonic))

    async def ask(self) -> list[str]:
        """What comes of a question; behind the last line is REFUSED."""
        answer = self.plugin.handle(world.query("a.example.org."), world.following(Reply(rcode=Rcode.REFUSED)))
        return world.summary(await world.soon(answer))


SECOND = ["NOERROR", "a.example.org. 60 IN A 192.0.2.2"]


@pytest.mark.parametrize(
    ("body", "respond", "zone", "expected"),
    [
        pytest.param("next NXDOMAIN", answer(rcode=3), ".", SECOND, id="next"),
        pytest.param("next NXDOMAIN", answer(A), ".", ["NOERROR", A], id="an answer"),
        pytest.param("next NXDOMAIN", answer(rcode=2), ".", ["SERVFAIL"], id="another rcode"),
        pytest.param("next NXDOMAIN", answer(rcode=3), "example.net", ["REFUSED"], id="the next one is for another zone"),
        pytest.param("next NXDOMAIN", answer(), ".", ["NOERROR"], id="nodata"),
        pytest.param("next_on_nodata", answer(), ".", SECOND, id="next on nodata"),
        pytest.param("next_on_nodata", answer(rcode=3), ".", ["NXDOMAIN"], id="no nodata"),
        pytest.param("next SERVFAIL\nread_timeout 10ms\nmax_connect_attempts 1\nmax_fails 0", silence, ".", ["SERVFAIL"], id="no reply"),
    ],
)
async def test_the_next_line_is_tried(
    upstream: ScriptedUpstream, other: ScriptedUpstream, body: str, respond: Any, zone: str, expected: list[str]
) -> None:
    """For replies that the line says so of; a failure to get any is none of them."""
    upstream.respond = respond
    assert await Two(upstream, other, body, zone).ask() == expected


async def test_the_last_line_has_no_next(upstream: ScriptedUpstream) -> None:
    """Its replies are sent, whatever it says."""
    upstream.respond = answer(rcode=3)
    assert (await Forwarding(upstream, body="next NXDOMAIN").ask()).rcode == Rcode.NXDOMAIN


async def test_failover(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """The next upstream is asked; when all were, the last reply is sent."""
    upstream.respond = answer(rcode=5)
    forwarding = Forwarding(upstream, other, body="policy sequential\nfailover REFUSED SERVFAIL")
    assert world.summary(await forwarding.ask()) == SECOND
    other.respond = answer(rcode=2)
    assert (await forwarding.ask("b.example.org.")).rcode == Rcode.SERVFAIL
    assert (len(upstream.asked), len(other.asked)) == (2, 2)


async def test_upstreams_that_control_has_found(upstream: ScriptedUpstream) -> None:
    """By host or file."""
    content = gather(world.options("forward", f"forward . localhost:{upstream.port}"), {})
    options = world.options("forward", f"forward . localhost:{upstream.port}")
    plugin = Forward(options, world.environment(clock=monotonic, data=lambda _plugin, key: content[key]))
    reply = await world.soon(plugin.handle(world.query("a.example.org."), world.following()))
    assert world.summary(reply) == ["NOERROR", A]


async def test_a_truncated_reply_is_passed_on(upstream: ScriptedUpstream) -> None:
    """The client asks again over TCP, and then we do."""
    upstream.respond = lambda query, transport: answer(A, flags=dns.flags.TC if transport == "udp" else 0)(query, transport)
    forwarding = Forwarding(upstream)
    assert (await forwarding.ask()).flags & TC
    assert not (await forwarding.ask(client=OVER_TCP)).flags & TC
    assert upstream.transports == ["udp", "tcp"]
    forwarding.stop()


async def test_prefer_udp_asks_again_over_tcp_itself(upstream: ScriptedUpstream) -> None:
    """Whatever the client came by."""
    upstream.respond = lambda query, transport: answer(A, flags=dns.flags.TC if transport == "udp" else 0)(query, transport)
    forwarding = Forwarding(upstream, body="prefer_udp")
    assert not (await forwarding.ask(client=OVER_TCP)).flags & TC
    assert upstream.transports == ["udp", "tcp"]
    forwarding.stop()


async def test_force_tcp_keeps_its_connection(upstream: ScriptedUpstream) -> None:
    """The second question goes over the first one's."""
    forwarding = Forwarding(upstream, body="force_tcp")
    await forwarding.ask()
    await forwarding.ask("b.example.org.")
    assert upstream.transports == ["tcp", "tcp"]
    assert upstream.connections == 1
    to = f"127.0.0.1:{upstream.port}"
    found = world.counted(forwarding.counters)
    assert found["coredns_proxy_conn_cache_hits_total", "forward", to, "tcp"] == 1
    assert found["coredns_proxy_conn_cache_misses_total", "forward", to, "tcp"] == 1
    forwarding.stop()


async def test_a_connection_that_the_upstream_closed_costs_nothing(upstream: ScriptedUpstream) -> None:
    """A new one is made for the question."""
    forwarding = Forwarding(upstream, body="force_tcp")
    await forwarding.ask()
    upstream.hang_up()
    assert (await forwarding.ask("b.example.org.")).rcode == Rcode.NOERROR
    forwarding.stop()


async def test_questions_that_are_alike_share_one_flight(upstream: ScriptedUpstream) -> None:
    """Whatever their spelling; other questions do not."""
    forwarding = Forwarding(upstream)
    names = ["a.example.org.", "A.EXAMPLE.org.", "a.example.org."]
    replies = await asyncio.gather(*(forwarding.ask(name) for name in names), forwarding.ask("b.example.org."))
    assert [reply.rcode for reply in replies] == [Rcode.NOERROR] * 4
    assert len(upstream.asked) == 2


async def test_max_concurrent(upstream: ScriptedUpstream) -> None:
    """More questions are REFUSED and counted."""
    forwarding = Forwarding(upstream, body="max_concurrent 2")
    replies = await asyncio.gather(*(forwarding.ask(f"{n}.example.org.") for n in range(4)))
    assert sorted(reply.rcode for reply in replies) == [Rcode.NOERROR, Rcode.NOERROR, Rcode.REFUSED, Rcode.REFUSED]
    assert world.counted(forwarding.counters)["coredns_forward_max_concurrent_rejects_total",] == 2


async def test_a_failed_upstream_is_left_out_until_it_answers_again(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """It is probed meanwhile."""
    forwarding = Forwarding(upstream, other, body="policy sequential\nread_timeout 50ms\nmax_fails 1\nhealth_check 10ms")
    upstream.respond = silence
    await forwarding.ask()
    server = next(iter(forwarding.kept.values()))
    server._fails = 2  # as if two probes had failed, each of which takes a second
    asked = len(upstream.asked)
    assert world.summary(await forwarding.ask("b.example.org.", rtype="AAAA"))[0] == "NOERROR"
    assert all(message.rtype == 2 for message, _ in upstream.asked[asked:])
    upstream.respond = answer(A)
    await asyncio.wait_for(server._probing, 10)
    assert not server.down
    assert world.summary(await forwarding.ask()) == ["NOERROR", A]
    forwarding.stop()


@pytest.mark.parametrize(
    ("body", "rcode"),
    [
        pytest.param("max_fails 1", Rcode.NOERROR, id="one is asked nevertheless"),
        pytest.param("max_fails 1\nfailfast_all_unhealthy_upstreams", Rcode.SERVFAIL, id="fail fast"),
    ],
)
async def test_when_all_are_down(upstream: ScriptedUpstream, body: str, rcode: int) -> None:
    """It is counted in either case."""
    forwarding = Forwarding(upstream, body=body)
    for server in forwarding.kept.values():
        server._fails = 5
    assert (await forwarding.ask()).rcode == rcode
    assert world.counted(forwarding.counters)["coredns_forward_healthcheck_broken_total",] == 1


async def test_round_robin(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """In turn."""
    forwarding = Forwarding(upstream, other, body="policy round_robin")
    for number in range(4):
        await forwarding.ask(f"{number}.example.org.")
    assert (len(upstream.asked), len(other.asked)) == (2, 2)


async def test_replies_to_other_questions_are_dropped(upstream: ScriptedUpstream) -> None:
    """Another id, another name, a question: none of them counts, and the true reply behind them does."""

    def forged(query: dns.message.Message, transport: str) -> list[bytes]:
        true = answer(A)(query, transport)
        assert isinstance(true, bytes)
        elsewhere = answer("b.example.org. 60 IN A 198.51.100.1")(dns.message.make_query("b.example.org.", "A", id=query.id), transport)
        assert isinstance(elsewhere, bytes)
        other_id = bytes((true[0] ^ 1,)) + true[1:]
        return [other_id, elsewhere, query.to_wire(), b"\0\1", true]

    upstream.respond = forged
    assert world.summary(await Forwarding(upstream).ask()) == ["NOERROR", A]


async def test_each_question_has_a_random_id_and_port(upstream: ScriptedUpstream) -> None:
    """RFC 5452 §9.2."""
    forwarding = Forwarding(upstream)
    for number in range(20):
        await forwarding.ask(f"{number}.example.org.")
    assert len({message.ident for message, _ in upstream.asked}) > 15


async def test_the_servers_of_the_old_chain_are_kept() -> None:
    """A reload with the same options finds connections and health as they were."""
    async with ScriptedUpstream(answer(A)) as upstream:
        forwarding = Forwarding(upstream)
        again = Forward(
            world.options("forward", f"forward . 127.0.0.1:{upstream.port} {{\npolicy sequential\n}}"),
            world.environment(counters=forwarding.counters, kept=lambda key, _make: forwarding.kept[key]),
        )
        await world.soon(again.handle(world.query("a.example.org."), world.following()))
        assert len(upstream.asked) == 1
