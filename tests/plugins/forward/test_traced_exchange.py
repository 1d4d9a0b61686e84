"""The spans of a traced query in *forward*: one for each query to an upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from svcdns.wire.codes import Rcode
from tests.support import world
from tests.support.forwarding import Forwarding
from tests.support.scripted_upstream import ScriptedUpstream, answer, held

A = "a.example.org. 60 IN A 192.0.2.1"


class Kept:
    """A span that keeps the spans inside it."""

    trace = "1"

    def __init__(self, name: str = "forward", tags: Mapping[str, str] | None = None) -> None:
        self.name, self.tags, self.ended = name, tags or {}, False
        self.inner: list[Kept] = []

    def child(self, name: str, tags: Mapping[str, str] | None = None) -> Kept:
        self.inner.append(Kept(name, tags))
        return self.inner[-1]

    def end(self) -> None:
        self.ended = True

    def shown(self) -> list[Any]:
        """Returns the names and upstreams of the inner spans that have ended."""
        return [(one.name, one.tags["peer.address"]) for one in self.inner if one.ended]


async def test_the_span_names_the_upstream(upstream: ScriptedUpstream) -> None:
    """The span has CoreDNS's name and tag."""
    span = Kept()
    reply = await Forwarding(upstream).ask(span=span)
    assert world.summary(reply) == ["NOERROR", A]
    assert span.shown() == [("connect", f"127.0.0.1:{upstream.port}")]


async def test_each_upstream_has_a_span(upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """If the first upstream fails, the second one has a span too."""
    upstream.respond = answer(rcode=Rcode.SERVFAIL)
    span = Kept()
    await Forwarding(upstream, other, body="policy sequential\nfailover SERVFAIL").ask(span=span)
    assert span.shown() == [("connect", f"127.0.0.1:{one.port}") for one in (upstream, other)]


async def test_a_query_that_joins_another_one(upstream: ScriptedUpstream) -> None:
    """Its span has the upstream that replied. The other query need not be traced."""
    upstream.respond = held(answer(A))
    forwarding, span = Forwarding(upstream), Kept()
    first, second = forwarding.asking(), forwarding.asking(span=span)
    await upstream.question()
    assert span.shown() == []
    upstream.release()
    await asyncio.gather(first, second)
    assert span.shown() == [("connect", f"127.0.0.1:{upstream.port}")]
    assert len(upstream.asked) == 1
