"""Identical concurrent queries share one exchange."""

from __future__ import annotations

import asyncio
from typing import Any

from svcdns.plugin_api.deferred import Deferred
from tests.support import world
from tests.support.forwarding import Forwarding
from tests.support.scripted_upstream import ScriptedUpstream, answer, held

A = "a.example.org. 60 IN A 192.0.2.1"


async def test_a_waiter_that_raises_does_not_affect_the_others(upstream: ScriptedUpstream) -> None:
    """If one waiting client's callback raises, the others still get the reply, and no client is still counted as
    waiting. The error is reported to the event loop.
    """
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
