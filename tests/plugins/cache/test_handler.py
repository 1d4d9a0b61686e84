"""The plugin *cache* (docs/behaviour/plugins.md#cache)."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from typing import Any

import pytest

from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply, rcode_only
from svcdns.plugins.cache import Cache
from svcdns.plugins.cache.memory import memory_of
from svcdns.plugins.cache.metrics import HITS
from svcdns.telemetry.counters import Counters
from svcdns.wire.codes import AD, CD, RA, RD, TC, OptionCode, Rcode
from svcdns.wire.record import Edns, Record
from tests.support import world

A = world.records("a.example.org. 60 IN A 10.0.0.1")
SOA = world.records("example.org. 300 IN SOA ns. root. 1 2 3 4 90")
B = world.records("b.example.org. 60 IN A 10.0.0.1")
OTHER_SOA = world.records("example.com. 300 IN SOA ns. root. 1 2 3 4 90")
CLUSTER = Reply(
    answer=world.records("web.d.svc.cluster.local. 30 IN A 10.96.0.1"),
    lifetime=UNTIL_CHANGED,
    dependencies=(("service", "d", "web"),),
)


class Cached:
    """The plugin *cache*, with a clock and an upstream. The test sets the upstream's reply."""

    def __init__(self, text: str = "cache", reply: Reply | None = None) -> None:
        """Creates the plugin from the directive `text`."""
        self.clock, self.counters = world.Clock(), Counters()
        self.asked = 0
        self.reply = reply or Reply(flags=RD | RA, answer=A)
        self.environment = world.environment(clock=self.clock, counters=self.counters)
        self.plugin = Cache(world.options("cache", text), self.environment)

    def reload(self, text: str) -> None:
        """Reloads the plugin with another directive."""
        old, self.plugin = self.plugin, Cache(world.options("cache", text), self.environment)
        old.stop()
        self.plugin.start()

    def _upstream(self, _query: Query) -> Answer:
        self.asked += 1
        return self.reply

    def ask(self, name: str = "a.example.org.", rtype: str = "A", **fields: Any) -> Reply:
        """Queries the plugin, and returns the reply."""
        return world.now(self.plugin.handle(world.query(name, rtype, server="dns://:53", **fields), self._upstream))

    def ttls(self, *args: Any, **fields: Any) -> list[int]:
        """Queries the plugin, and returns the TTLs of the reply."""
        reply = self.ask(*args, **fields)
        return [record.ttl for record in (*reply.answer, *reply.authority)]


def test_removes_the_opt_record_of_an_upstream() -> None:
    """The server core adds an OPT record that mirrors the client's OPT record."""
    cached = Cached(reply=Reply(flags=RD | RA, answer=A, edns=world.edns(4096)))
    assert [cached.ask().edns, cached.ask().edns] == [None, None]


@pytest.mark.parametrize("lifetime", [60.0, UNTIL_CHANGED])
def test_the_reply_that_is_stored_is_for_its_own_query(lifetime: float) -> None:
    """The reply gets the lifetime 0, so that the answer table stores only replies from the cache."""
    cached = Cached(reply=Reply(flags=RD, answer=A, lifetime=lifetime))
    assert cached.ask().lifetime == 0
    assert cached.ask().lifetime == 60


def test_a_reply_that_is_not_stored_keeps_its_lifetime() -> None:
    cached = Cached(reply=Reply(flags=RD, answer=A, lifetime=60.0, scope=CacheScope.CLIENT_CLASS))
    assert [cached.ask().lifetime, cached.ask().lifetime] == [60, 60]


def test_a_zone_transfer_gets_the_ttl_of_uncached_replies() -> None:
    """If the transfer is cancelled, the source of its records is closed, too."""
    ended = []

    def stream() -> Generator[Iterable[Record], None, None]:
        try:
            yield SOA
            yield A
        finally:
            ended.append(True)

    made = Cached(reply=Reply(stream=stream())).ask(rtype="AXFR").stream
    assert made is not None
    assert [record.ttl for record in next(made)] == [5]
    made.close()
    assert ended


def test_caches_an_answer_and_counts_its_ttl_down() -> None:
    cached = Cached()
    assert cached.ttls() == [60]
    cached.clock.turn(10.5)
    assert cached.ttls() == [50]
    cached.clock.turn(49.4)
    assert cached.ttls() == [1]
    assert cached.asked == 1
    cached.clock.turn(0.2)
    assert cached.ttls() == [60]
    assert cached.asked == 2


def test_the_answer_table_may_store_a_hit() -> None:
    """The reply has the time when its TTL goes down next, and the time when it expires."""
    cached = Cached()
    cached.ask()
    cached.clock.turn(10.25)
    again = cached.ask()
    assert (again.lifetime, again.next_second) == (pytest.approx(49.75), pytest.approx(0.75))


def test_keepttl() -> None:
    """Hits have the original TTL until the entry expires."""
    cached = Cached("cache {\n keepttl\n}")
    cached.ask()
    cached.clock.turn(20.25)
    assert cached.ttls() == [60]
    assert cached.ask().lifetime == pytest.approx(39.75)
    cached.clock.turn(40)
    cached.ask()
    assert cached.asked == 2


@pytest.mark.parametrize(
    ("text", "reply", "ttls"),
    [
        pytest.param("cache 30", Reply(answer=A), [30], id="longest"),
        pytest.param(
            "cache {\n success 1000 30 20\n}", Reply(answer=world.records("a. 7 IN A 10.0.0.1")), [20], id="shortest"
        ),
        pytest.param("cache", Reply(answer=world.records("a. 1 IN A 10.0.0.1")), [5], id="never below 5"),
        pytest.param("cache 3", Reply(answer=world.records("a. 1 IN A 10.0.0.1")), [3], id="but not above the longest"),
        pytest.param(
            "cache",
            Reply(answer=world.records("a.example.org. 9000 IN CNAME b."), authority=SOA),
            [300, 300],
            id="alias to nothing",
        ),
        pytest.param("cache", Reply(rcode=Rcode.NXDOMAIN, authority=SOA), [300], id="denial"),
        pytest.param("cache 20", Reply(authority=SOA), [20], id="nodata"),
        pytest.param(
            "cache {\n denial 100 45\n}", Reply(rcode=Rcode.NXDOMAIN, authority=SOA), [45], id="longest denial"
        ),
    ],
)
def test_bounds_the_ttl(text: str, reply: Reply, ttls: list[int]) -> None:
    """The limits of *cache* apply to the TTLs of the first reply, too."""
    assert Cached(text, reply).ttls() == ttls


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(flags=TC, answer=A), id="truncated"),
        pytest.param(Reply(rcode=Rcode.NXDOMAIN), id="NXDOMAIN without SOA"),
        pytest.param(Reply(answer=B), id="another name"),
        pytest.param(Reply(rcode=Rcode.NXDOMAIN, authority=OTHER_SOA), id="NXDOMAIN with the SOA of another zone"),
        pytest.param(Reply(authority=OTHER_SOA), id="NODATA with the SOA of another zone"),
        pytest.param(Reply(rcode=Rcode.REFUSED), id="refused"),
        pytest.param(rcode_only(Rcode.SERVFAIL, "no upstream"), id="not a message"),
        pytest.param(Reply(answer=A, scope=CacheScope.CLIENT), id="for this client alone"),
    ],
)
def test_does_not_cache(reply: Reply) -> None:
    """Truncated replies, unrelated replies, errors and replies for one client are not cached."""
    cached = Cached(reply=reply)
    cached.ask("a.example.org.")
    cached.ask("a.example.org.")
    assert cached.asked == 2


def test_expired_signatures_are_cached() -> None:
    """svcdns does not validate signatures, so their times do not affect the cache."""
    signature = "a.example.org. 300 IN RRSIG A 13 3 300 20010101000000 20000101000000 1 example.org. AQID"
    cached = Cached(reply=Reply(answer=(*A, *world.records(signature))))
    for _ in range(2):
        assert len(cached.ask("a.example.org.", edns=world.edns(dnssec_ok=True)).answer) == len(A) + 1
    assert cached.asked == 1


def test_unrelated_records_of_an_upstream_are_not_cached() -> None:
    """A record of another name is neither in the cached answer, nor an answer to queries for its own name."""
    evil = world.records("bank.example.com. 60 IN A 203.0.113.66")
    cached = Cached(reply=Reply(answer=(*A, *evil), authority=evil, additional=evil))
    cached.ask()
    assert world.summary(cached.ask()) == ["NOERROR", "a.example.org. 60 IN A 10.0.0.1"]
    assert cached.asked == 1
    cached.ask("bank.example.com.")
    assert cached.asked == 2


def test_a_query_with_a_client_subnet_is_not_answered_from_the_cache() -> None:
    """The reply may be valid for one network only. The upstream gets the option, and the reply is not cached (RFC 7871
    §7.3).
    """
    edns = Edns(1232, options=((OptionCode.CLIENT_SUBNET, b"\0\1\x18\x18\xc0\0\2"),))
    cached = Cached(reply=Reply(flags=RD | RA, answer=A, edns=edns))
    query = Edns(1232, options=((OptionCode.CLIENT_SUBNET, b"\0\1\x18\0\xc0\0\2"),))
    assert [cached.ask(edns=query).edns for _ in range(2)] == [edns, edns]
    assert cached.asked == 2
    cached.ask()
    cached.ask(edns=query)
    assert cached.asked == 4


@pytest.mark.parametrize(("scope", "asked"), [(0, 1), (24, 2)], ids=["for everyone", "for one network"])
def test_a_reply_for_one_network_is_not_cached(scope: int, asked: int) -> None:
    """*rewrite* has added a client-subnet option to the query. The scope in the reply determines whether the reply is
    cached (RFC 7871 §7.3.1).
    """
    option = OptionCode.CLIENT_SUBNET, bytes((0, 1, 24, scope, 192, 0, 2))
    cached = Cached(reply=Reply(flags=RD | RA, answer=A, edns=Edns(1232, options=(option,))))
    cached.ask()
    cached.ask()
    assert cached.asked == asked


def test_servfail_is_cached_briefly() -> None:
    """The default is 5 s. `servfail 0` turns the caching of SERVFAIL off."""
    cached = Cached(reply=Reply(rcode=Rcode.SERVFAIL))
    cached.ask()
    cached.clock.turn(4.9)
    assert cached.ask().rcode == Rcode.SERVFAIL
    assert cached.asked == 1
    cached.clock.turn(0.2)
    cached.ask()
    assert cached.asked == 2
    none = Cached("cache {\n servfail 0\n}", Reply(rcode=Rcode.SERVFAIL))
    none.ask()
    none.ask()
    assert none.asked == 2


def test_different_queries_have_different_entries() -> None:
    cached = Cached()
    cached.ask()
    cached.ask("A.Example.ORG.")
    assert cached.asked == 1
    cached.ask(rtype="AAAA")
    cached.ask(edns=world.edns(dnssec_ok=True))
    cached.ask(flags=RD | CD)
    assert cached.asked == 4


def test_ad_is_set_for_queries_with_ad_or_do() -> None:
    cached = Cached(reply=Reply(flags=AD | RA, answer=A))
    assert not cached.ask().flags & AD
    assert not cached.ask().flags & AD
    assert cached.ask(flags=RD | AD).flags & AD


def test_an_answer_from_the_cluster_is_never_cached() -> None:
    cached = Cached("cache 20", CLUSTER)
    for _ in range(2):
        reply = cached.ask("web.d.svc.cluster.local.")
        assert (reply.lifetime, reply.dependencies) == (UNTIL_CHANGED, CLUSTER.dependencies)
        assert [record.ttl for record in reply.answer] == [20]
        cached.clock.turn(10)
    assert cached.asked == 2
    assert (cached.counters.cell(HITS, "dns://:53", "success", ".", ""), 1.0) in reply.increments


def test_other_clients_get_the_first_clients_letter_case() -> None:
    """As in CoreDNS, a query in another letter case gets the name as the first client spelled it."""
    cached = Cached("cache 20")
    asked: list[bytes] = []

    def cluster(query: Query) -> Answer:
        asked.append(query.name)
        return CLUSTER

    def ask(name: str) -> float:
        return world.now(cached.plugin.handle(world.query(name, server="dns://:53"), cluster)).lifetime

    assert ask("Web.d.svc.cluster.local.") == UNTIL_CHANGED
    cached.clock.turn(5)
    assert ask("wEB.d.svc.cluster.local.") == 15.0
    assert ask("Web.d.svc.cluster.local.") == UNTIL_CHANGED
    cached.clock.turn(15)
    assert ask("wEB.d.svc.cluster.local.") == UNTIL_CHANGED
    assert [name[1:4] for name in asked] == [b"Web", b"Web", b"Web", b"wEB"]


def test_an_entry_is_removed_when_its_dependency_changes() -> None:
    """The entry is a CNAME record to an external name, and its Service changes."""
    mixed = Reply(answer=A, lifetime=30.0, dependencies=(("service", "d", "ext"),))
    cached = Cached(reply=mixed)
    cached.ask()
    cached.ask()
    assert cached.asked == 1
    cached.plugin.invalidate({("service", "d", "ext")})
    cached.ask()
    assert cached.asked == 2


async def test_a_reply_to_a_query_from_before_a_change_is_not_cached() -> None:
    """The cluster may have got the name since the query."""
    cached = Cached(reply=Reply(answer=A, lifetime=0.0, dependencies=(("service", "d", "ext"),)))
    gate = asyncio.Event()

    async def later() -> Reply:
        await gate.wait()
        return cached.reply

    query = world.query("a.example.org.", server="dns://:53")
    waiting = asyncio.ensure_future(world.soon(cached.plugin.handle(query, lambda _: later())))
    await asyncio.sleep(0)
    cached.plugin.invalidate({("service", "d", "other")})
    gate.set()
    await waiting
    cached.ask()
    assert cached.asked == 1


async def test_replies_from_cluster_data_do_not_outlive_a_reload() -> None:
    """After a reload, some clients may no longer be permitted to see the data. Replies that are still on their way to
    the old chain are not cached, either.
    """
    cached = Cached(reply=Reply(answer=A, lifetime=9.0, dependencies=(("service", "d", "ext"),)))
    cached.ask()
    cached.reload("cache 30")
    cached.ask()
    assert cached.asked == 2
    gate = asyncio.Event()

    async def later() -> Reply:
        await gate.wait()
        return cached.reply

    query = world.query("b.example.org.", server="dns://:53")
    waiting = asyncio.ensure_future(world.soon(cached.plugin.handle(query, lambda _: later())))
    await asyncio.sleep(0)
    cached.reload("cache 30")
    gate.set()
    await waiting
    cached.ask("b.example.org.")
    assert cached.asked == 3


@pytest.mark.parametrize(
    ("text", "reply", "asked"),
    [
        pytest.param("cache {\n disable success\n}", Reply(answer=A), 2, id="success"),
        pytest.param("cache {\n disable denial\n}", Reply(answer=A), 1, id="the other class is kept"),
        pytest.param(
            "cache {\n disable denial example.org\n}", Reply(rcode=Rcode.NXDOMAIN, authority=SOA), 2, id="denial"
        ),
        pytest.param(
            "cache {\n disable denial example.net\n}", Reply(rcode=Rcode.NXDOMAIN, authority=SOA), 1, id="another zone"
        ),
        pytest.param("cache example.net", Reply(answer=A), 2, id="outside the zones"),
    ],
)
def test_disable(text: str, reply: Reply, asked: int) -> None:
    """`disable` names a kind of reply and zones. Such replies are not cached."""
    cached = Cached(text, reply)
    cached.ask()
    cached.ask()
    assert cached.asked == asked


@pytest.mark.parametrize(
    "text", ["cache", "cache {\n success 1024\n}", "cache {\n success 50000\n denial 1024\n}", "cache {\n keepttl\n}"]
)
def test_a_reload_keeps_the_entries(text: str) -> None:
    cached = Cached("cache {\n success 5000\n}")
    names = [f"n{number}.example.org." for number in range(2000)]
    for name in names:
        cached.reply = Reply(answer=world.records(f"{name} 60 IN A 10.0.0.1"))
        cached.ask(name)
    cached.reload(text)
    for _ in range(20):
        cached.plugin.tick()
    cached.asked = 0
    for name in names[-1024:]:
        cached.ask(name)
    assert cached.asked == 0
    size = world.counted(cached.counters)["coredns_cache_entries", "dns://:53", "success", ".", ""]
    assert size == (1024 if "1024" in text.split("denial", maxsplit=1)[0] else 2000)


def test_a_reload_applies_new_bounds_to_entries() -> None:
    """A shorter maximum TTL and `disable` also apply to entries from before the reload."""
    cached = Cached("cache 3600", Reply(answer=world.records("a.example.org. 600 IN A 10.0.0.1")))
    cached.ask()
    cached.reload("cache 30")
    cached.clock.turn(10)
    assert cached.ttls() == [20]
    cached.clock.turn(20)
    cached.ask()
    assert cached.asked == 2
    cached.reload("cache {\n disable success example.org\n}")
    cached.ask()
    assert cached.asked == 3


def test_a_reload_with_a_short_time_for_denials_keeps_errors() -> None:
    cached = Cached(reply=Reply(rcode=Rcode.SERVFAIL))
    cached.ask()
    cached.reload("cache {\n denial 10000 1 0\n}")
    cached.clock.turn(4)
    assert cached.ask().rcode == Rcode.SERVFAIL
    assert cached.asked == 1
    cached.reload("cache {\n servfail 2s\n}")
    cached.ask()
    assert cached.asked == 2


def test_counts() -> None:
    """The metrics count requests, hits by kind, misses and entries."""
    cached = Cached()
    cached.ask()
    cached.ask()
    cached.reply = Reply(rcode=Rcode.NXDOMAIN, authority=SOA)
    cached.ask("b.example.org.")
    cached.ask("b.example.org.")
    cached.plugin.tick()
    zone, by = ("dns://:53", ".", ""), "dns://:53"
    found = world.counted(cached.counters)
    assert found["coredns_cache_requests_total", *zone] == 4
    assert found["coredns_cache_misses_total", *zone] == 2
    assert found["coredns_cache_hits_total", by, "success", ".", ""] == 1
    assert found["coredns_cache_hits_total", by, "denial", ".", ""] == 1
    assert found["coredns_cache_entries", by, "success", ".", ""] == 1
    assert found["coredns_cache_entries", by, "denial", ".", ""] == 1
    assert found["svcdns_cache_bytes", by, "success", ".", ""] == memory_of(
        world.query("a.example.org.").key, Reply(answer=A)
    )


async def test_a_deferred_reply_is_cached_too() -> None:
    cached = Cached()

    async def later() -> Reply:
        return Reply(answer=A)

    query = world.query("a.example.org.", server="dns://:53")
    reply = await world.soon(cached.plugin.handle(query, lambda _: later()))
    assert [record.ttl for record in reply.answer] == [60]
    assert cached.ttls() == [60]
    assert cached.asked == 0
