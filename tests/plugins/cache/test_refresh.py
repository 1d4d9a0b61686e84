"""The plugin *cache*: refreshing entries before they expire, and serving expired entries
(docs/behaviour/plugins.md#cache, RFC 8767).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply, rcode_only
from svcdns.plugins.cache import Cache, refresh
from svcdns.telemetry.counters import Counters
from svcdns.wire.codes import AA, AD, RA, RD, TC, ExtendedError, Rcode, rcode_text
from tests.support import world

OLD = Reply(flags=RD | RA, answer=world.records("a.example.org. 60 IN A 10.0.0.1"))
NEW = Reply(flags=RD | RA, answer=world.records("a.example.org. 60 IN A 10.0.0.2"))
GONE = Reply(rcode=Rcode.NXDOMAIN, authority=world.records("example.org. 60 IN SOA ns. root. 1 2 3 4 90"))
FAILED = Reply(rcode=Rcode.SERVFAIL)
EMPTY = Reply()


class Upstream:
    """The next plugin, which returns `reply`: immediately, or when `gate` is opened."""

    def __init__(self) -> None:
        self.reply = OLD
        self.queries: list[Query] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def __call__(self, query: Query) -> Answer:
        self.queries.append(query)
        return self._later() if not self.gate.is_set() else self.reply

    async def _later(self) -> Reply:
        await self.gate.wait()
        return self.reply


class Cached:
    """The plugin *cache*, with a clock and an upstream."""

    def __init__(self, *lines: str) -> None:
        """Creates the plugin. `lines` are the body of the directive."""
        self.clock, self.counters, self.upstream = world.Clock(), Counters(), Upstream()
        options = world.options("cache", "cache {\n" + "\n".join(lines) + "\n}")
        self.down = False
        peers = {"forward": (self,)}
        around = world.environment(clock=self.clock, counters=self.counters, peers=lambda name: peers.get(name, ()))
        self.plugin = Cache(options, around)

    def is_down(self, key: bytes) -> bool:
        """Returns whether *forward* reports the name's upstreams as down."""
        assert key == world.query("a.example.org.").key
        return self.down

    async def ask(self, flags: int = RD) -> Reply:
        """Queries the plugin for a.example.org, and returns the reply."""
        query = world.query("a.example.org.", server="dns://:53", flags=flags)
        return await world.soon(self.plugin.handle(query, self.upstream))

    async def summary(self) -> str:
        """Queries the plugin. Returns the rcode, and for each record the last octet and the TTL."""
        reply = await self.ask()
        records = (*reply.answer, *reply.authority)
        return " ".join([rcode_text(reply.rcode), *(f"{record.rdata[-1]}/{record.ttl}" for record in records)])

    def counted(self, name: str) -> float:
        return world.counted(self.counters).get((f"coredns_cache_{name}_total", "dns://:53", ".", ""), 0)


async def settle() -> None:
    """Runs the event loop until all started tasks wait."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def stale() -> AsyncIterator[Cached]:
    """Yields a cache with `serve_stale`. It has an entry that expired a second ago."""
    cached = Cached("serve_stale 1h")
    await cached.ask()
    cached.clock.turn(61)
    yield cached
    cached.plugin.stop()


async def test_an_expired_entry_is_served_and_refreshed(stale: Cached) -> None:
    """A stale reply has TTL 0, and the answer table does not store it. The refresh is sent over TCP, with AD."""
    stale.upstream.reply = NEW
    reply = await stale.ask()
    assert world.summary(reply) == ["NOERROR", "a.example.org. 0 IN A 10.0.0.1"]
    assert (reply.lifetime, reply.flags) == (0.0, RD | RA | AA)
    await settle()
    assert await stale.summary() == "NOERROR 2/60"
    assert len(stale.upstream.queries) == 2
    renewing = stale.upstream.queries[1]
    assert (renewing.client.protocol, renewing.flags & AD) == ("tcp", AD)
    assert (stale.counted("prefetch"), stale.counted("served_stale"), stale.counted("misses")) == (1, 1, 1)


async def test_one_refresh_at_a_time(stale: Cached) -> None:
    """An entry has one refresh at a time, however many clients query the name."""
    stale.upstream.gate.clear()
    for _ in range(3):
        assert await stale.summary() == "NOERROR 1/0"
        await settle()
    assert len(stale.upstream.queries) == 2
    stale.upstream.reply = NEW
    stale.upstream.gate.set()
    await settle()
    assert await stale.summary() == "NOERROR 2/60"
    assert stale.counted("served_stale") == 3


@pytest.mark.parametrize(
    "reply",
    [FAILED, rcode_only(Rcode.SERVFAIL), Reply(rcode=Rcode.REFUSED), Reply(flags=TC), Reply(dropped=True)],
    ids=lambda r: str(r.rcode),
)
async def test_a_refresh_that_fails_leaves_the_entry(stale: Cached, reply: Reply) -> None:
    stale.upstream.reply = reply
    for _ in range(2):
        assert await stale.summary() == "NOERROR 1/0"
        await settle()
    assert len(stale.upstream.queries) == 3


async def test_a_denial_replaces_an_answer(stale: Cached) -> None:
    """If the reply to the refresh is NXDOMAIN, the stale answer is removed."""
    stale.upstream.reply = GONE
    await stale.ask()
    await settle()
    assert await stale.summary() == "NXDOMAIN 90/60"


async def test_an_answer_replaces_a_denial() -> None:
    cached = Cached("serve_stale 1h")
    cached.upstream.reply = GONE
    await cached.ask()
    cached.clock.turn(61)
    cached.upstream.reply = NEW
    assert await cached.summary() == "NXDOMAIN 90/0"
    await settle()
    cached.clock.turn(10)
    assert await cached.summary() == "NOERROR 2/50"


async def test_stale_entries_end(stale: Cached) -> None:
    """An entry is no longer served after the time that `serve_stale` states."""
    stale.upstream.reply = FAILED
    stale.clock.turn(3598.5)
    assert await stale.summary() == "NOERROR 1/0"
    await settle()
    stale.clock.turn(1)
    assert await stale.summary() == "SERVFAIL"


async def test_ttl_and_recheck() -> None:
    """The answer table may use a stale reply until the next refresh is due."""
    cached = Cached("serve_stale 1h immediate 7s 10s")
    await cached.ask()
    cached.clock.turn(61)
    cached.upstream.reply = FAILED
    assert await cached.summary() == "NOERROR 1/7"
    await settle()
    cached.clock.turn(4)
    reply = await cached.ask()
    await settle()
    assert (len(cached.upstream.queries), reply.lifetime, reply.next_second) == (2, 6.0, UNTIL_CHANGED)
    cached.clock.turn(6)
    await cached.ask()
    await settle()
    assert len(cached.upstream.queries) == 3


async def test_keepttl() -> None:
    """With `keepttl`, a stale reply has the original TTL."""
    cached = Cached("serve_stale 1h", "keepttl")
    await cached.ask()
    cached.clock.turn(61)
    assert await cached.summary() == "NOERROR 1/60"
    cached.plugin.stop()


async def test_refreshes_are_bounded(stale: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above `MAX_REFRESHES` refreshes, stale entries are served without a refresh."""
    monkeypatch.setattr(refresh, "MAX_REFRESHES", 0)
    assert await stale.summary() == "NOERROR 1/0"
    await settle()
    assert len(stale.upstream.queries) == 1


async def test_a_refresh_that_raises_is_logged(stale: Cached, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Query) -> Answer:
        raise ValueError("broken")

    await world.soon(stale.plugin.handle(world.query("a.example.org.", server="dns://:53"), broken))
    await settle()
    assert "a refresh failed\n" in caplog.text
    assert "ValueError: broken" in caplog.text
    stale.upstream.reply = NEW
    await stale.ask()
    await settle()
    assert await stale.summary() == "NOERROR 2/60"


async def test_a_change_of_a_dependency_ends_a_stale_entry() -> None:
    cached = Cached("serve_stale 1h")
    cached.upstream.reply = Reply(answer=OLD.answer, lifetime=0.0, dependencies=(("service", "d", "ext"),))
    await cached.ask()
    cached.clock.turn(61)
    cached.plugin.invalidate({("service", "d", "ext")})
    cached.upstream.reply = NEW
    assert await cached.summary() == "NOERROR 2/60"


async def test_an_answer_from_the_cluster_replaces_a_stale_entry(stale: Cached) -> None:
    stale.upstream.reply = Reply(answer=NEW.answer, lifetime=UNTIL_CHANGED, dependencies=(("service", "d", "web"),))
    await stale.ask()
    await settle()
    assert await stale.summary() == "NOERROR 2/60"
    assert stale.counted("misses") == 2


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (OLD, ExtendedError.STALE_ANSWER),
        (EMPTY, ExtendedError.STALE_ANSWER),
        (GONE, ExtendedError.STALE_NXDOMAIN_ANSWER),
    ],
)
@pytest.mark.parametrize("mode", ["immediate", "verify"])
async def test_a_stale_answer_has_an_extended_error(mode: str, reply: Reply, code: int) -> None:
    """The codes are in RFC 8914 §4.4 and §4.20. A fresh answer has no extended error."""
    cached = Cached(f"serve_stale 1h {mode}")
    cached.upstream.reply = reply
    assert [(await cached.ask()).extended, (await cached.ask()).extended] == [None, None]
    cached.clock.turn(61)
    cached.upstream.reply = FAILED
    assert (await cached.ask()).extended == code
    await settle()
    cached.upstream.reply = NEW
    await cached.ask()
    await settle()
    assert (await cached.ask()).extended is None


async def test_serve_stale_is_at_most_seven_days(caplog: pytest.LogCaptureFixture) -> None:
    """A longer time causes a warning."""
    cached = Cached("serve_stale 720h")
    cached.plugin.start()
    assert "for fewer days days=7" in caplog.text
    await cached.ask()
    cached.upstream.reply = FAILED
    cached.clock.turn(7 * 86400 + 59)
    assert await cached.summary() == "NOERROR 1/0"
    await settle()
    cached.clock.turn(2)
    assert await cached.summary() == "SERVFAIL"


# -- verify


@pytest.mark.parametrize("arguments", ["", "10s", "10s 0s 10s"])
async def test_upstreams_that_are_known_to_be_down_are_not_waited_for(arguments: str) -> None:
    """With `verify`, the client normally waits for the refresh. If all upstreams are down, it gets the stale reply
    immediately.
    """
    cached = await verifying(arguments)
    cached.down = True
    cached.upstream.gate.clear()
    assert await cached.summary() == "NOERROR 1/0"
    await settle()
    cached.upstream.reply = NEW
    cached.upstream.gate.set()
    await settle()
    assert await cached.summary() == "NOERROR 2/60"


async def verifying(*arguments: str) -> Cached:
    """Returns a cache with `verify`. It has an entry that expired a second ago."""
    cached = Cached("serve_stale 1h verify " + " ".join(arguments))
    await cached.ask()
    cached.clock.turn(61)
    return cached


@pytest.mark.parametrize(
    ("reply", "summary"),
    [(NEW, "NOERROR 2/60"), (GONE, "NXDOMAIN 90/60"), (FAILED, "NOERROR 1/0"), (rcode_only(5), "NOERROR 1/0")],
    ids=str,
)
@pytest.mark.parametrize("arguments", ["", "10s", "10s 0s 10s", "0s 0s 10s"])
async def test_verify_refreshes_first(arguments: str, reply: Reply, summary: str) -> None:
    """The stale entry is served only if the refresh fails."""
    cached = await verifying(arguments)
    cached.upstream.reply = reply
    assert await cached.summary() == summary
    assert len(cached.upstream.queries) == 2
    assert cached.upstream.queries[1].client.protocol == "udp"


async def test_verify_waits_for_the_timeout() -> None:
    """The stale entry is served after the timeout. A later reply to the refresh is cached. Concurrent clients wait for
    the same refresh.
    """
    cached = await verifying("10ms")
    cached.upstream.gate.clear()
    cached.upstream.reply = NEW
    first, second = await asyncio.gather(cached.summary(), cached.summary())
    assert (first, second, len(cached.upstream.queries)) == ("NOERROR 1/0", "NOERROR 1/0", 2)
    cached.upstream.gate.set()
    await settle()
    assert await cached.summary() == "NOERROR 2/60"


async def test_each_waiting_client_gets_its_own_flags() -> None:
    """Two clients wait for the same refresh. Each reply has the RD flag of its own query."""
    cached = await verifying("10s")
    cached.upstream.gate.clear()
    cached.upstream.reply = Reply(flags=RD, answer=world.records("b. 60 IN A 10.0.0.3"))  # not kept: another name
    waiting = [asyncio.ensure_future(cached.ask(flags)) for flags in (RD, 0)]
    await settle()
    cached.upstream.gate.set()
    assert [reply.flags & RD for reply in await asyncio.gather(*waiting)] == [RD, 0]
    assert len(cached.upstream.queries) == 2


async def test_verify_keeps_to_recheck() -> None:
    """After a failed refresh, the next refresh is sent after `recheck` seconds."""
    cached = await verifying("10s", "0s", "30s")
    cached.upstream.reply = FAILED
    assert await cached.summary() == "NOERROR 1/0"
    cached.clock.turn(29)
    assert await cached.summary() == "NOERROR 1/0"
    assert len(cached.upstream.queries) == 2
    cached.clock.turn(1)
    cached.upstream.gate.clear()
    waiting = asyncio.ensure_future(cached.summary())
    await settle()
    assert await cached.summary() == "NOERROR 1/0"
    cached.upstream.reply = NEW
    cached.upstream.gate.set()
    assert await waiting == "NOERROR 2/60"


# -- prefer_positive


async def test_prefer_positive_serves_an_old_answer_before_a_denial() -> None:
    """With `prefer_positive`, a stale answer is preferred to a newer denial, until the answer is too old."""
    cached = Cached("serve_stale 1h", "serve_stale_policy prefer_positive")
    await cached.ask()
    cached.clock.turn(61)
    cached.upstream.reply = GONE
    for _ in range(2):
        assert await cached.summary() == "NOERROR 1/0"
        await settle()
    cached.clock.turn(3600)
    assert await cached.summary() == "NXDOMAIN 90/0"
    cached.plugin.stop()


async def test_prefer_positive_keeps_an_answer_after_an_empty_reply() -> None:
    cached = Cached("serve_stale 1h", "serve_stale_policy prefer_positive")
    await cached.ask()
    cached.clock.turn(61)
    cached.upstream.reply = EMPTY
    for _ in range(3):
        assert await cached.summary() == "NOERROR 1/0"
        await settle()
    cached.upstream.reply = NEW
    await cached.ask()
    await settle()
    assert await cached.summary() == "NOERROR 2/60"


# -- prefetch


async def test_a_popular_entry_is_refreshed_before_it_expires() -> None:
    """An entry is popular after enough hits. The new entry keeps the number of hits."""
    cached = Cached("prefetch 2 1m 20%")
    for _ in range(3):
        await cached.ask()
    cached.upstream.reply = NEW
    cached.clock.turn(47.5)
    reply = await cached.ask()
    assert (reply.lifetime, reply.next_second) == (0.5, 0.5)
    cached.clock.turn(0.5)
    assert await cached.summary() == "NOERROR 1/12"
    await settle()
    assert await cached.summary() == "NOERROR 2/60"
    cached.clock.turn(48)
    await cached.ask()
    await settle()
    assert (len(cached.upstream.queries), cached.counted("prefetch"), cached.counted("misses")) == (3, 2, 1)


async def test_hits_are_counted_until_they_are_enough_for_a_prefetch() -> None:
    """*cache* must count each hit, so the answer table may not store the reply yet."""
    cached = Cached("prefetch 3 1m 50%")
    await cached.ask()
    assert [(await cached.ask()).lifetime for _ in range(4)] == [0.0, 0.0, 30.0, 30.0]


async def test_a_gap_between_two_hits_resets_the_count() -> None:
    cached = Cached("prefetch 2 10s 50%")
    await cached.ask()
    await cached.ask()
    cached.clock.turn(11)
    assert (await cached.ask()).lifetime == 0.0
    assert (await cached.ask()).lifetime == 10.0
    cached.clock.turn(15)
    assert (await cached.ask()).lifetime > 0.0, "hits from the table are taken to have come"


async def test_a_failed_refresh_leaves_the_answer() -> None:
    cached = Cached("prefetch 1 1m 90%")
    await cached.ask()
    cached.upstream.reply = FAILED
    cached.clock.turn(30)
    assert await cached.summary() == "NOERROR 1/30"
    await settle()
    assert await cached.summary() == "NOERROR 1/30"
    await settle()
