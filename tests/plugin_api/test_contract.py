"""Changing a reply that is there, or to come; joining the terms of two."""

from __future__ import annotations

from collections.abc import Generator

import msgspec

from svcdns.plugin_api.contract import steps, then
from svcdns.plugin_api.query import Answer
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply, joined
from svcdns.wire.codes import AA
from tests.support import world


def mark(reply: Reply) -> Reply:
    """A changed copy."""
    return msgspec.structs.replace(reply, flags=AA)


async def test_then() -> None:
    """At once where it can be."""
    assert world.now(then(Reply(), mark)).flags == AA

    async def later() -> Reply:
        return Reply(rcode=3)

    assert await world.soon(then(later(), mark)) == Reply(rcode=3, flags=AA)


def test_joined() -> None:
    """The shorter lifetime, all facts, both counts; for this client if either is."""
    one = Reply(lifetime=UNTIL_CHANGED, dependencies=(("a",), ("b",)), increments=((1, 1.0),))
    other = Reply(rcode=3, lifetime=5.0, dependencies=(("b",), ("c",)), increments=((2, 1.0),), scope=CacheScope.CLIENT)
    reply = joined(one, other)
    assert (reply.rcode, reply.lifetime, reply.dependencies) == (0, 5.0, (("a",), ("b",), ("c",)))
    assert (reply.scope, reply.increments) == (CacheScope.CLIENT, ((1, 1.0), (2, 1.0)))
    assert joined(one, Reply(extended=3)).extended == joined(Reply(extended=3), Reply(extended=4)).extended == 3


async def test_steps() -> None:
    """A generator runs on while replies are there, and waits for those that are not."""

    async def later() -> Reply:
        return Reply(rcode=3)

    def work(*answers: Answer) -> Generator[Answer, Reply, Reply]:
        total = 0
        for answer in answers:
            total += (yield answer).rcode
        return Reply(rcode=total)

    assert world.now(steps(work())) == Reply()
    assert world.now(steps(work(Reply(rcode=1), Reply(rcode=2)))) == Reply(rcode=3)
    assert await world.soon(steps(work(Reply(rcode=1), later(), Reply(rcode=2), later()))) == Reply(rcode=9)
