"""The entries of *cache*, as tools list and drop them."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugin_api.stored import Selection, StoredReply
from svcdns.plugins.cache import Cache
from svcdns.wire import names
from svcdns.wire.codes import RA, RD, Rcode
from tests.support import world

NAME = names.from_text("a.example.org.")
SOA = world.records("example.org. 300 IN SOA ns. root. 1 2 3 4 90")


class Cached:
    def __init__(self, text: str) -> None:
        self.clock = world.Clock()
        self.plugin = Cache(world.options("cache", text), world.environment(clock=self.clock))

    def store(self, reply: Reply, rtype: str = "A") -> None:
        world.now(self.plugin.handle(world.query("A.example.org.", rtype, server="dns://:53"), lambda _: reply))

    def list(self, selection: Selection = Selection()) -> list[StoredReply]:  # noqa: B008 - it is frozen
        return [one for one in self.plugin.stored_replies(selection) if one is not None]


ANSWER = Reply(flags=RD | RA, answer=world.records("A.example.org. 60 IN A 10.0.0.1"))
DENIAL = Reply(rcode=Rcode.NXDOMAIN, flags=RD | RA, authority=SOA)


def test_answers_and_denials() -> None:
    cached = Cached("cache")
    cached.store(ANSWER)
    cached.store(DENIAL, "AAAA")
    cached.clock.turn(10)
    assert cached.list() == [
        StoredReply("cache", "dns://:53", NAME, 1, Rcode.NOERROR, 50, 50.0),
        StoredReply("cache", "dns://:53", NAME, 28, Rcode.NXDOMAIN, 290, 290.0),
    ]
    assert sum(cached.plugin.drop_replies(Selection(NAME, rtype=28))) == 1
    assert [one.rtype for one in cached.list()] == [1]


@pytest.mark.parametrize(
    ("text", "ttls"),
    [
        pytest.param("cache", [], id="expired"),
        pytest.param("cache {\n serve_stale 1h\n}", [(0, -5.0)], id="stale"),
        pytest.param("cache {\n keepttl\n serve_stale 1h\n}", [(60, -5.0)], id="the original TTL"),
    ],
)
def test_expired_entries(text: str, ttls: list[tuple[int, float]]) -> None:
    """Only an entry that may be served counts as dropped."""
    cached = Cached(text)
    cached.store(ANSWER)
    cached.clock.turn(65)
    assert [(one.ttl, one.expires) for one in cached.list()] == ttls
    assert sum(cached.plugin.drop_replies(Selection())) == len(ttls)
    assert cached.list() == []


def test_hits_are_counted_with_prefetch() -> None:
    cached = Cached("cache {\n prefetch 100\n}")
    for _ in range(3):
        cached.store(rcode_only(Rcode.REFUSED) if cached.list() else ANSWER)
    assert [one.hits for one in cached.list()] == [2]
