"""The plugin *forward* (docs/behaviour/plugins.md#forward), with upstreams on loopback."""

from __future__ import annotations

import asyncio
from typing import Any

import dns.flags
import dns.message
import msgspec
import pytest

from svcdns.eventloop.clock import monotonic
from svcdns.plugin_api.contract import then
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.query import Client, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.forward import Forward, gather
from svcdns.wire.codes import RA, TC, ExtendedError, Rcode
from tests.support import world
from tests.support.forwarding import Forwarding
from tests.support.scripted_upstream import ScriptedUpstream, answer, held, silence

A = "a.example.org. 60 IN A 192.0.2.1"
OVER_TCP = Client("192.0.2.1", 40000, "192.0.2.53", 53, "tcp")


async def test_returns_the_upstreams_answer(upstream: ScriptedUpstream) -> None:
    """The reply has the upstream's records and flags. The answer table may not store it."""
    reply = await Forwarding(upstream).ask()
    assert world.summary(reply) == ["NOERROR", A]
    assert reply.flags & RA
    assert reply.lifetime == 0.0


async def test_the_following_plugins_answer_names_of_other_zones(upstream: ScriptedUpstream) -> None:
    """A name in `except` goes to the next plugin. The name of the rule's own zone never does."""
    forwarding = Forwarding(upstream, zone="example.org", body="except sub.example.org example.org")
    assert (await forwarding.ask("a.example.net.")).rcode == Rcode.NXDOMAIN
    assert (await forwarding.ask("x.sub.example.org.")).rcode == Rcode.NXDOMAIN
    upstream.respond = answer()
    assert (await forwarding.ask("example.org.")).rcode == Rcode.NOERROR
    assert len(upstream.asked) == 1


class Two:
    """Two *forward* rules in one block."""

    def __init__(self, first: ScriptedUpstream, second: ScriptedUpstream, body: str, zone: str = ".") -> None:
        """Creates the rules. `body` is the body of the first rule, `zone` the zone of the second rule."""
        text = f"forward . 127.0.0.1:{first.port} {{\n{body}\n}}\nforward {zone} 127.0.0.1:{second.port}"
        self.plugin = Forward(world.options("forward", text), world.environment(clock=monotonic))

    async def ask(self) -> list[str]:
        """Returns the reply as text lines. If no rule answers, the next plugin returns REFUSED."""
        answer = self.plugin.handle(world.query("a.example.org."), world.following(Reply(rcode=Rcode.REFUSED)))
        return world.summary(await world.soon(answer))


SECOND = ["NOERROR", "a.example.org. 60 IN A 192.0.2.2"]


@pytest.mark.parametrize(
    ("body", "respond", "zone", "expected"),
    [
        pytest.param("next NXDOMAIN", answer(rcode=3), ".", SECOND, id="next"),
        pytest.param("next NXDOMAIN", answer(A), ".", ["NOERROR", A], id="an answer"),
        pytest.param("next NXDOMAIN", answer(rcode=2), ".", ["SERVFAIL"], id="another rcode"),
        pytest.param(
            "next NXDOMAIN", answer(rcode=3), "example.net", ["REFUSED"], id="the next one is for another zone"
        ),
        pytest.param("next NXDOMAIN", answer(), ".", ["NOERROR"], id="nodata"),
        pytest.param("next_on_nodata", answer(), ".", SECOND, id="next on nodata"),
        pytest.param("next_on_nodata", answer(rcode=3), ".", ["NXDOMAIN"], id="no nodata"),
        pytest.param(
            "next SERVFAIL\nread_timeout 10ms\nmax_connect_attempts 1\nmax_fails 0",
            silence,
            ".",
            ["SERVFAIL"],
            id="no reply",
        ),
    ],
)
async def test_the_next_rule_answers(
    upstream: ScriptedUpstream, other: ScriptedUpstream, body: str, respond: Any, zone: str, expected: list[str]
) -> None:
    """The option `next` names the rcodes after which the next rule is used. A failed exchange is no reason."""
    upstream.respond = respond
    assert await Two(upstream, other, body, zone).ask() == expected


async def test_the_last_rule_returns_its_reply(upstream: ScriptedUpstream) -> None:
    """The reply is returned even if `next` names its rcode."""
    upstream.respond = answer(rcode=3)
    assert (await Forwarding(upstream, body="next NXDOMAIN").ask()).rcode == Rcode.NXDOMAIN


async def test_upstreams_that_control_found(upstream: ScriptedUpstream) -> None:
    content = gather(world.options("forward", f"forward . localhost:{upstream.port}"), {})
    options = world.options("forward", f"forward . localhost:{upstream.port}")
    plugin = Forward(options, world.environment(clock=monotonic, data=lambda _plugin, key: content[key]))
    reply = await world.soon(plugin.handle(world.query("a.example.org."), world.following()))
    assert world.summary(reply) == ["NOERROR", A]


async def test_upstreams_of_a_file_that_changes(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """New queries go to the new upstreams. Open queries are answered by the old upstreams."""
    data = {"/etc/resolv.conf": msgspec.msgpack.encode([("127.0.0.1", upstream.port)])}
    calls = []
    kept: dict[Any, Any] = {}
    environment = world.environment(
        data=lambda _plugin, key: data[key],
        on_data=lambda plugin, key, call: calls.append((plugin, key, call)),
        kept=lambda key, make: kept.setdefault(key, None) or kept.update({key: make()}) or kept[key],
    )
    plugin = Forward(world.options("forward", "forward . /etc/resolv.conf"), environment)
    upstream.respond = held(answer(A))
    before = asyncio.ensure_future(world.soon(plugin.handle(world.query("a.example.org."), world.following())))
    await upstream.question()
    data["/etc/resolv.conf"] = msgspec.msgpack.encode([("127.0.0.1", other.port)])
    ((name, key, call),) = calls
    assert (name, key) == ("forward", "/etc/resolv.conf")
    call(data[key])
    after = await world.soon(plugin.handle(world.query("a.example.org.", "AAAA"), world.following()))
    assert world.summary(after) == SECOND
    upstream.release()
    assert world.summary(await before) == ["NOERROR", A]
    assert (len(upstream.asked), len(other.asked)) == (1, 1)


@pytest.mark.parametrize("policy", ["random", "round_robin", "sequential"])
async def test_without_upstream_addresses(policy: str) -> None:
    """The client gets SERVFAIL immediately."""
    options = world.options("forward", f"forward . /etc/resolv.conf {{\n policy {policy}\n}}")
    plugin = Forward(options, world.environment(data=lambda _plugin, _key: None))
    reply = plugin.handle(world.query("a.example.org."), world.following())
    assert isinstance(reply, Reply)
    assert (reply.rcode, reply.error) == (Rcode.SERVFAIL, "no healthy proxies")


async def test_a_query_with_an_upstream_reply_is_not_sent_again(upstream: ScriptedUpstream) -> None:
    """The query comes from the fast path, which has received the reply."""
    upstream_reply = Reply(rcode=Rcode.NXDOMAIN)
    query = world.query("a.example.org.")
    query.upstream_reply = upstream_reply
    forwarding = Forwarding(upstream)
    assert forwarding.plugin.handle(query, world.following()) is upstream_reply
    assert upstream.asked == []
    others: list[Query] = []
    query.ask_server = lambda other: others.append(other) or upstream_reply
    query.ask(b"\1b\0", 1)
    assert [other.upstream_reply for other in others] == [None]


async def test_a_truncated_reply_is_returned(upstream: ScriptedUpstream) -> None:
    """Without `prefer_udp`, the client may retry over TCP. *forward* then uses TCP, too."""
    upstream.respond = lambda query, transport: answer(A, flags=dns.flags.TC if transport == "udp" else 0)(
        query, transport
    )
    forwarding = Forwarding(upstream)
    assert (await forwarding.ask()).flags & TC
    assert not (await forwarding.ask(client=OVER_TCP)).flags & TC
    assert upstream.transports == ["udp", "tcp"]


async def test_prefer_udp_retries_over_tcp_itself(upstream: ScriptedUpstream) -> None:
    """*forward* begins over UDP even if the client uses TCP."""
    upstream.respond = lambda query, transport: answer(A, flags=dns.flags.TC if transport == "udp" else 0)(
        query, transport
    )
    forwarding = Forwarding(upstream, body="prefer_udp")
    assert not (await forwarding.ask(client=OVER_TCP)).flags & TC
    assert upstream.transports == ["udp", "tcp"]


async def test_force_tcp_keeps_its_connection(upstream: ScriptedUpstream) -> None:
    forwarding = Forwarding(upstream, body="force_tcp")
    await forwarding.ask()
    await forwarding.ask("b.example.org.")
    assert upstream.transports == ["tcp", "tcp"]
    assert upstream.connections == 1
    to = f"127.0.0.1:{upstream.port}"
    found = world.counted(forwarding.counters)
    assert found["coredns_proxy_conn_cache_hits_total", "forward", to, "tcp"] == 1
    assert found["coredns_proxy_conn_cache_misses_total", "forward", to, "tcp"] == 1


async def test_a_connection_that_the_upstream_closed_is_replaced(upstream: ScriptedUpstream) -> None:
    forwarding = Forwarding(upstream, body="force_tcp")
    await forwarding.ask()
    upstream.hang_up()
    assert (await forwarding.ask("b.example.org.")).rcode == Rcode.NOERROR


async def test_identical_queries_share_one_exchange(upstream: ScriptedUpstream) -> None:
    forwarding = Forwarding(upstream)
    names = ["a.example.org.", "A.EXAMPLE.org.", "a.example.org."]
    replies = await asyncio.gather(*(forwarding.ask(name) for name in names), forwarding.ask("b.example.org."))
    assert [reply.rcode for reply in replies] == [Rcode.NOERROR] * 4
    assert len(upstream.asked) == 2


async def test_max_concurrent(upstream: ScriptedUpstream) -> None:
    """Queries above the limit get REFUSED, and are counted."""
    forwarding = Forwarding(upstream, body="max_concurrent 2")
    replies = await asyncio.gather(*(forwarding.ask(f"{n}.example.org.") for n in range(4)))
    assert sorted(reply.rcode for reply in replies) == [Rcode.NOERROR, Rcode.NOERROR, Rcode.REFUSED, Rcode.REFUSED]
    assert world.counted(forwarding.counters)["coredns_forward_max_concurrent_rejects_total",] == 2


async def test_the_servers_of_the_old_chain_are_kept() -> None:
    """After a reload with the same options, *forward* keeps its connections and the health of its upstreams."""
    async with ScriptedUpstream(answer(A)) as upstream:
        forwarding = Forwarding(upstream)
        again = Forward(
            world.options("forward", f"forward . 127.0.0.1:{upstream.port} {{\npolicy sequential\n}}"),
            world.environment(counters=forwarding.counters, kept=lambda key, _make: forwarding.kept[key]),
        )
        await world.soon(again.handle(world.query("a.example.org."), world.following()))
        assert len(upstream.asked) == 1


async def test_an_exchange_goes_on_without_its_client(upstream: ScriptedUpstream) -> None:
    """If the client disconnects, the reply still reaches *cache* and other waiting clients."""
    upstream.respond = held(answer(A))
    forwarding = Forwarding(upstream)
    answered = forwarding.plugin.handle(world.query("a.example.org."), world.following())
    assert isinstance(answered, Deferred)
    seen: list[Reply] = []
    then(answered, lambda reply: seen.append(reply) or reply)
    gone, other = asyncio.ensure_future(answered), forwarding.asking()
    await upstream.question()
    gone.cancel()
    upstream.release()
    assert world.summary(await other) == ["NOERROR", A]
    assert [world.summary(reply) for reply in seen] == [["NOERROR", A]]
    assert forwarding.plugin._rules[0]._single_flight._waiting == 0
    assert not forwarding.plugin._rules[0]._single_flight._clients


@pytest.mark.parametrize(
    ("limit", "names", "clients", "error"),
    [
        pytest.param(
            "MAX_WAITERS",
            ["a"] * 4,
            ["192.0.2.1"] * 4,
            "concurrent queries for one name exceeded maximum 3",
            id="of a flight",
        ),
        pytest.param(
            "MAX_OF_CLIENT",
            "abcd",
            ["192.0.2.1"] * 4,
            "concurrent queries of one client exceeded maximum 3",
            id="of a client",
        ),
        pytest.param("MAX_EXCHANGES", "abcd", ["192.0.2.1"] * 4, "concurrent queries exceeded maximum 3", id="flights"),
        pytest.param("MAX_OF_CLIENT", "abcd", [f"192.0.2.{n}" for n in range(4)], "", id="several clients"),
    ],
)
async def test_limits(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, limit: str, names: str, clients: list[str], error: str
) -> None:
    """Queries above a limit are REFUSED and counted. When other queries end, new ones are accepted."""
    monkeypatch.setattr(f"svcdns.plugins.forward.single_flight.{limit}", 3)
    upstream.respond = held(answer())
    forwarding = Forwarding(upstream)
    origins = [Client(address, 40000, "192.0.2.53", 53, "udp") for address in clients]
    pairs = zip(names, origins, strict=True)
    waiting = [forwarding.asking(f"{name}.example.org.", client=client) for name, client in pairs]
    while upstream.holds < min(len(set(names)), 3 if error else 4):
        await asyncio.sleep(0)
    if error:
        last = await waiting[3]
        assert (last.rcode, last.error) == (Rcode.REFUSED, error)
        assert forwarding.counted("coredns_forward_max_concurrent_rejects_total") == 1
    upstream.release()
    assert [reply.rcode for reply in await asyncio.gather(*waiting[:3])] == [Rcode.NOERROR] * 3
    upstream.respond = answer()
    assert (await forwarding.ask("z.example.org.")).rcode == Rcode.NOERROR


async def test_internal_names(upstream: ScriptedUpstream) -> None:
    """`leak_guard` determines whether internal names are forwarded or get NXDOMAIN. The next plugin never gets them."""
    forwarding = Forwarding(upstream)
    assert (await forwarding.ask("web.", server="dns://:53")).extended is None
    assert (
        world.counted(forwarding.counters)["svcdns_forward_leaked_total", "dns://:53", "single_label", "forwarded"] == 1
    )
    asked = len(upstream.asked)
    blocking = Forwarding(upstream, body="leak_guard block")
    reply = await blocking.ask("web.default.svc.cluster.local.")
    assert (reply.rcode, reply.extended) == (Rcode.NXDOMAIN, ExtendedError.BLOCKED)
    assert len(upstream.asked) == asked


async def test_whether_the_upstreams_of_a_name_are_down(upstream: ScriptedUpstream) -> None:
    """`is_down` reports on the rule for the name. Without such a rule, it returns False."""
    forwarding = Forwarding(upstream, zone="example.org")
    key, elsewhere = (world.query(name).key for name in ("a.example.org.", "a.example.net."))
    assert not forwarding.plugin.is_down(key)
    for server in forwarding.servers:
        server.health.failed_checks = 5
    assert forwarding.plugin.is_down(key)
    assert not forwarding.plugin.is_down(elsewhere)


async def test_avoids_an_upstream(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """A reply has the label of its upstream. A query can name one upstream to avoid, even if there is no other."""
    forwarding = Forwarding(upstream, other)
    first, second = (f"127.0.0.1:{one.port}" for one in (upstream, other))
    replies = await asyncio.gather(*(forwarding.ask(avoid=avoid) for avoid in ("", first, second)))
    assert [reply.source for reply in replies] == [first, second, first]
    alone = Forwarding(upstream)
    asked = len(upstream.asked)
    assert (await alone.ask(avoid=first)).rcode == Rcode.SERVFAIL
    for server in forwarding.servers:
        server.health.failed_checks = 5
    assert (await forwarding.ask(avoid=first)).source == second
    assert len(upstream.asked) == asked
