"""Denials that come as a surprise: where a name that was there for long is gone by one upstream's word, another one is asked.

Rules: only names that upstreams have answered for as long as the option says; one more question for each such denial; if the other upstream
has an answer, that goes out. If it fails, the denial goes out and is not kept, for PATIENCE at most, so that a name that has really gone
does not stay in doubt where there is nobody else to ask. What is remembered is bounded, and old news counts for nothing."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

import msgspec
from cachetools import LRUCache

from svcdns.eventloop.clock import Clock
from svcdns.plugin_api.contract import Following
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import CacheScope, Reply
from svcdns.plugins.cache.cacheability import DENIALS, is_answer, kind_of
from svcdns.telemetry.counters import Counters, Family, MetricKind

PATIENCE: Final = 60.0
"""Seconds after the first doubt in which a denial that nobody confirms is not believed."""
NEWS: Final = 86400.0
"""Seconds after the last answer in which a name counts as one that is there."""
NAMES: Final = 10_000
"""Names and types that are remembered, some 400 octets each."""

DOUBTED: Final = Family(
    "svcdns_cache_doubted_denials_total",
    MetricKind.COUNTER,
    "Denials that another upstream was asked about.",
    ("server", "zones", "view", "outcome"),
)


class Known(msgspec.Struct, gc=False):
    """Since when a name has had answers, when it had the last one, and when that was first doubted."""

    since: float
    last: float
    doubted: float = float("inf")


class Doubts:
    """What a cache remembers of names to doubt their denials by."""

    def __init__(self, after: float, clock: Clock, counters: Counters, zones: str, view: str) -> None:
        """`after` is how long a name must have had answers, in seconds; `zones` and `view` label the metric."""
        self._after, self._clock, self._counters, self._labels = after, clock, counters, (zones, view)
        self._known: LRUCache[tuple[bytes, int, int], Known] = LRUCache(NAMES)

    def before(self, following: Following) -> Following:
        """The rest of the chain, whose denials are doubted."""

        def ask(query: Query) -> Answer:
            answer = following(query)
            if not isinstance(answer, Reply):
                return self._later(query, following, answer)
            return self._confirmed(query, following, answer) if self._is_doubtful(query, answer) else answer

        return ask

    async def _later(self, query: Query, following: Following, answer: Awaitable[Reply]) -> Reply:
        reply = await answer
        return await self._confirmed(query, following, reply) if self._is_doubtful(query, reply) else reply

    def _is_doubtful(self, query: Query, reply: Reply) -> bool:
        """Whether it is a surprising denial of an upstream. An answer is remembered."""
        if not reply.source or not reply.has_message:
            return False
        now, key = self._clock(), (query.key, query.rtype, query.rclass)
        known: Known | None = self._known.get(key)
        if known is not None and now - known.last > NEWS:
            del self._known[key]
            known = None
        if is_answer(query, reply):
            self._known[key] = Known(now if known is None else known.since, now)
            return False
        if known is None or known.last - known.since < self._after or kind_of(query, reply) not in DENIALS:
            return False
        known.doubted = min(known.doubted, now)
        return True

    async def _confirmed(self, query: Query, following: Following, denial: Reply) -> Reply:
        """The answer of another upstream, or the denial if there is none."""
        key = (query.key, query.rtype, query.rclass)
        answer = following(query.changed(avoid=denial.source))
        other = answer if isinstance(answer, Reply) else await answer
        known: Known | None = self._known.get(key)
        if is_answer(query, other):
            self._known[key] = Known(known.since if known is not None else self._clock(), self._clock())
            return self._counted(query, "overruled", other)
        if other.has_message and kind_of(query, other) in DENIALS:
            self._known.pop(key, None)
            return self._counted(query, "confirmed", denial)
        if known is None or self._clock() - known.doubted > PATIENCE:
            self._known.pop(key, None)
            return self._counted(query, "believed", denial)
        return self._counted(query, "unconfirmed", msgspec.structs.replace(denial, scope=CacheScope.CLIENT))

    def _counted(self, query: Query, outcome: str, reply: Reply) -> Reply:
        self._counters.count(DOUBTED, query.server, *self._labels, outcome)
        return reply
