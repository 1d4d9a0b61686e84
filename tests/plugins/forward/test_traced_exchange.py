"""The spans of a traced query in *forward*: one for each query to an upstream."""

from __future__ import annotations

import asyncio

from svcdns.wire.codes import Rcode
from tests.support import world
from tests.support.forwarding import Forwarding
from tests.support.scripted_upstream import ScriptedUpstream, answer, held
from tests.support.spans import KeptSpan

A = "a.example.org. 60 IN A 192.0.2.1"


async def test_the_span_names_the_upstream(upstream: ScriptedUpstream) -> None:
    """The span has CoreDNS's name and tag."""
    span = KeptSpan()
    reply = await Forwarding(upstream).ask(span=span)
    assert world.summary(reply) == ["NOERROR", A]
    assert span.shown() == [("connect", f"127.0.0.1:{upstream.port}")]


async def test_each_upstream_has_a_span(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """If the first upstream fails, the second one has a span too."""
    upstream.respond = answer(rcode=Rcode.SERVFAIL)
    span = KeptSpan()
    await Forwarding(upstream, other, body="policy sequential\nfailover SERVFAIL").ask(span=span)
    assert span.shown() == [("connect", f"127.0.0.1:{one.port}") for one in (upstream, other)]


async def test_a_query_that_joins_another_one(upstream: ScriptedUpstream) -> None:
    """Its span has the upstream that replied. The other query need not be traced."""
    upstream.respond = held(answer(A))
    forwarding, span = Forwarding(upstream), KeptSpan()
    first, second = forwarding.asking(), forwarding.asking(span=span)
    await upstream.question()
    assert span.shown() == []
    upstream.release()
    await asyncio.gather(first, second)
    assert span.shown() == [("connect", f"127.0.0.1:{upstream.port}")]
    assert len(upstream.asked) == 1
