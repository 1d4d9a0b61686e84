"""The replies that a contract check gives to queries that pass the plugin."""

from __future__ import annotations

import pytest

from svcdns.plugin_api import AA, UNTIL_CHANGED, Type
from svcdns.plugin_api.deferred import Deferred
from svcdns.testing.rest import DEFAULTS, counting_down, from_upstream, unchanging
from tests.support import world


def test_the_kinds() -> None:
    """By default, the check uses all three kinds of replies."""
    assert set(DEFAULTS) == {unchanging, from_upstream, counting_down}


@pytest.mark.parametrize(
    ("now", "ttl", "lifetime", "next_second"),
    [(60.0, 30, 30, 1), (60.5, 30, 29.5, 0.5), (61.0, 29, 29, 1), (89.75, 1, 0.25, 0.25), (90.0, 30, 30, 1)],
)
def test_a_reply_that_counts_down(now: float, ttl: int, lifetime: float, next_second: float) -> None:
    """The TTLs go down with the clock. When they reach 0, the lifetime ends. AA is not set."""
    for rtype in ("A", "MX"):
        reply = counting_down(world.query("a.b.", rtype), lambda: now)
        assert [record.ttl for record in (*reply.answer, *reply.authority)] == [ttl]
        assert (reply.lifetime, reply.next_second, reply.flags & AA) == (lifetime, next_second, 0)


async def test_a_reply_that_comes_later() -> None:
    """The reply has the lifetime 0."""
    answer = from_upstream(world.query("a.b.", "AAAA"), lambda: 0.0)
    assert isinstance(answer, Deferred)
    assert not answer.settled
    reply = await answer
    assert (reply.lifetime, reply.flags & AA, len(reply.answer[0].rdata)) == (0, 0, 16)


def test_a_reply_that_does_not_change() -> None:
    """A query for a type without data gets an SOA record. The reply stays valid until a dependency changes."""
    reply = unchanging(world.query("a.b.", "MX"), lambda: 0.0)
    assert (reply.lifetime, bool(reply.dependencies), reply.flags & AA) == (UNTIL_CHANGED, True, AA)
    assert (reply.answer, [record.rtype for record in reply.authority]) == ((), [Type.SOA])
