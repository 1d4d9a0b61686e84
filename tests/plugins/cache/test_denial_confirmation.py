"""Confirming a denial with another upstream before *cache* stores it."""

from __future__ import annotations

import msgspec
import pytest

from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugins.cache import Cache, denial_confirmation
from svcdns.telemetry.counters import Counters
from svcdns.wire.codes import RD, Rcode, rcode_text
from tests.support import world

THERE = Reply(flags=RD, answer=world.records("a.example.org. 60 IN A 10.0.0.1"), source="192.0.2.1:53")
MOVED = Reply(flags=RD, answer=world.records("a.example.org. 60 IN A 10.0.0.2"), source="192.0.2.2:53")
SOA = world.records("example.org. 60 IN SOA ns. root. 1 2 3 4 90")
GONE = Reply(rcode=Rcode.NXDOMAIN, authority=SOA, source="192.0.2.1:53")
EMPTY = Reply(authority=SOA, source="192.0.2.1:53")
SILENCE = rcode_only(Rcode.SERVFAIL, "no other upstream")


class Upstreams:
    """A cache with two upstreams. If the query avoids `first`, `second` answers. With `late`, replies come as
    coroutines.
    """

    def __init__(self, text: str = "cache {\n confirm_denials 10m\n}") -> None:
        """Creates the plugin *cache* from the directive `text`."""
        self.clock, self.counters = world.Clock(), Counters()
        self.plugin = Cache(world.options("cache", text), world.environment(clock=self.clock, counters=self.counters))
        self.first, self.second, self.late = THERE, SILENCE, False
        self.asked: list[str] = []

    def __call__(self, query: Query) -> Answer:
        self.asked.append(query.avoid)
        reply = self.second if query.avoid else self.first
        return self._later(reply) if self.late else reply

    async def _later(self, reply: Reply) -> Reply:
        return reply

    async def ask(self) -> str:
        """Queries a.example.org, and returns the rcode and the last octet of each address."""
        reply = await world.soon(self.plugin.handle(world.query("a.example.org.", server="dns://:53"), self))
        return " ".join([rcode_text(reply.rcode), *(str(record.rdata[-1]) for record in reply.answer)])

    async def known(self, minutes: int = 10) -> None:
        """Queries once a minute for `minutes` minutes, so that the name has a history of answers."""
        for _ in range(minutes + 1):
            assert await self.ask() == "NOERROR 1"
            self.clock.turn(60)
        self.asked.clear()

    def outcomes(self) -> dict[str, float]:
        """Returns the metric of confirmations, by outcome."""
        found = world.counted(self.counters)
        return {
            labels[-1]: value
            for labels, value in found.items()
            if labels[0] == "svcdns_cache_denial_confirmations_total"
        }


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("denial", [GONE, EMPTY], ids=["NXDOMAIN", "NODATA"])
async def test_another_upstream_has_an_answer(denial: Reply, *, late: bool) -> None:
    """The client gets the answer instead of the denial. The answer is cached."""
    upstreams = Upstreams()
    upstreams.late = late
    await upstreams.known()
    upstreams.first, upstreams.second = denial, MOVED
    for _ in range(2):
        assert await upstreams.ask() == "NOERROR 2"
        assert await upstreams.ask() == "NOERROR 2"
        upstreams.clock.turn(60)
    assert upstreams.asked == ["", "192.0.2.1:53"] * 2
    assert upstreams.outcomes() == {"overruled": 2}


@pytest.mark.parametrize("other", [GONE, EMPTY], ids=["NXDOMAIN", "NODATA"])
async def test_another_upstream_confirms_the_denial(other: Reply) -> None:
    upstreams = Upstreams()
    await upstreams.known()
    upstreams.first, upstreams.second = GONE, msgspec.structs.replace(other, source="192.0.2.2:53")
    for _ in range(2):
        assert await upstreams.ask() == "NXDOMAIN"
        assert await upstreams.ask() == "NXDOMAIN"
        upstreams.clock.turn(60)
    assert upstreams.asked == ["", "192.0.2.1:53", ""]
    assert upstreams.outcomes() == {"confirmed": 1}


async def test_no_other_upstream_answers() -> None:
    """The client gets the denial, which is not cached. After `MAX_UNCONFIRMED` seconds the denial is accepted."""
    upstreams = Upstreams()
    await upstreams.known()
    upstreams.first = GONE
    for _ in range(2):
        assert await upstreams.ask() == "NXDOMAIN"
        upstreams.clock.turn(denial_confirmation.MAX_UNCONFIRMED / 2)
    assert upstreams.asked == ["", "192.0.2.1:53"] * 2
    upstreams.clock.turn(1)
    for _ in range(2):
        assert await upstreams.ask() == "NXDOMAIN"
    assert upstreams.asked == ["", "192.0.2.1:53"] * 3
    assert upstreams.outcomes() == {"unconfirmed": 2, "accepted": 1}


async def test_an_answer_ends_the_unconfirmed_time() -> None:
    """After an answer, the time `MAX_UNCONFIRMED` of a later denial begins again."""
    upstreams = Upstreams()
    await upstreams.known()
    for _ in range(2):
        upstreams.first = GONE
        assert await upstreams.ask() == "NXDOMAIN"
        upstreams.first = THERE
        assert await upstreams.ask() == "NOERROR 1"
        upstreams.clock.turn(denial_confirmation.MAX_UNCONFIRMED + 1)
    assert upstreams.outcomes() == {"unconfirmed": 2}


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        pytest.param(9, "cache {\n confirm_denials 10m\n}", id="not for long"),
        pytest.param(59, "cache {\n confirm_denials\n}", id="an hour if not told otherwise"),
        pytest.param(10, "cache", id="off"),
    ],
)
async def test_denials_that_need_no_confirmation(minutes: int, text: str) -> None:
    """The name had no recent answer, so its denial is cached without a query to another upstream."""
    upstreams = Upstreams(text)
    await upstreams.known(minutes)
    upstreams.first = GONE
    for _ in range(2):
        assert await upstreams.ask() == "NXDOMAIN"
    assert upstreams.asked == [""]
    assert upstreams.outcomes() == {}


async def test_history_expires() -> None:
    """Without an answer for `MAX_AGE` seconds, a name has no history, and its denial needs no confirmation."""
    upstreams = Upstreams()
    await upstreams.known()
    upstreams.first = GONE
    upstreams.clock.turn(denial_confirmation.MAX_AGE)
    assert await upstreams.ask() == "NXDOMAIN"
    assert upstreams.asked == [""]


@pytest.mark.parametrize(
    "reply",
    [msgspec.structs.replace(GONE, source=""), rcode_only(Rcode.NXDOMAIN), Reply(rcode=Rcode.SERVFAIL, source="x")],
)
async def test_only_denials_of_upstreams_are_confirmed(reply: Reply) -> None:
    """Errors, and denials that plugins make, are cached without confirmation."""
    upstreams = Upstreams()
    await upstreams.known()
    upstreams.first = reply
    await upstreams.ask()
    assert upstreams.asked == [""]


async def test_the_history_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denial_confirmation, "MAX_NAMES", 2)
    upstreams = Upstreams()
    await upstreams.known()
    for name in ("b.example.org.", "c.example.org."):
        upstreams.first = Reply(answer=world.records(f"{name} 60 IN A 10.0.0.1"), source="192.0.2.1:53")
        world.now(upstreams.plugin.handle(world.query(name, server="dns://:53"), upstreams))
    upstreams.asked.clear()
    upstreams.first = GONE
    assert await upstreams.ask() == "NXDOMAIN"
    assert upstreams.asked == [""]
