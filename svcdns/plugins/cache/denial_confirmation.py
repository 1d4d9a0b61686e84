"""Denial confirmation: checks a denial with another upstream if upstreams answered the same name before.

Each check costs one more query. If the other upstream has an answer, the client gets this answer. If the other upstream
fails, the client gets the denial, and the denial is not cached. After MAX_UNCONFIRMED seconds, a denial is accepted
without a check. The number of names with a history is limited.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

import msgspec
from cachetools import LRUCache

from svcdns.eventloop.clock import Clock
from svcdns.plugin_api.contract import Following
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import CacheScope, Reply
from svcdns.plugins.cache.cacheability import DENIALS, is_answer, message_type
from svcdns.telemetry.counters import Counters, Family, MetricKind

MAX_UNCONFIRMED: Final = 60.0
"""Seconds after the first unconfirmed denial of a name. After that time, denials are accepted without confirmation."""
MAX_AGE: Final = 86400.0
"""Seconds for which the history of a name is kept after the name's last answer."""
MAX_NAMES: Final = 10_000
"""The most pairs of name and type in the history. Each takes about 400 octets."""

CONFIRMATIONS: Final = Family(
    "svcdns_cache_denial_confirmations_total",
    MetricKind.COUNTER,
    "Denials for which another upstream was queried.",
    ("server", "zones", "view", "outcome"),
)


class History(msgspec.Struct, gc=False):
    """The history of one name: the times of its first answer, its last answer, and its first unconfirmed denial.

    `unconfirmed_since` is infinite if there was no denial since the last answer.
    """

    first: float
    last: float
    unconfirmed_since: float = float("inf")


class DenialConfirmation:
    """Keeps the history of the names of one cache, and confirms their denials."""

    def __init__(self, after: float, clock: Clock, counters: Counters, zones: str, view: str) -> None:
        """`after` is in seconds. A denial is confirmed only if upstreams have answered its name for at least this time.

        `zones` and `view` are label values of the metric.
        """
        self._after, self._clock, self._counters, self._labels = after, clock, counters, (zones, view)
        self._history: LRUCache[tuple[bytes, int, int], History] = LRUCache(MAX_NAMES)

    def confirming(self, following: Following) -> Following:
        """Returns a function that calls the following plugins.

        If their reply is a denial that must be confirmed, the function calls them a second time, for another upstream.
        """

        def answer_confirmed(query: Query) -> Answer:
            answer = following(query)
            if not isinstance(answer, Reply):
                return self._later(query, following, answer)
            return self._confirmed(query, following, answer) if self._needs_confirmation(query, answer) else answer

        return answer_confirmed

    async def _later(self, query: Query, following: Following, answer: Awaitable[Reply]) -> Reply:
        reply = await answer
        return await self._confirmed(query, following, reply) if self._needs_confirmation(query, reply) else reply

    def _needs_confirmation(self, query: Query, reply: Reply) -> bool:
        """Returns True if the reply is a denial from an upstream, and upstreams have answered its name for `after`
        seconds.

        An answer is added to the history of its name.
        """
        if not reply.source or not reply.has_message:
            return False
        now, key = self._clock(), (query.key, query.rtype, query.rclass)
        history: History | None = self._history.get(key)
        if history is not None and now - history.last > MAX_AGE:
            del self._history[key]
            history = None
        if is_answer(query, reply):
            self._history[key] = History(now if history is None else history.first, now)
            return False
        if history is None or history.last - history.first < self._after or message_type(query, reply) not in DENIALS:
            return False
        history.unconfirmed_since = min(history.unconfirmed_since, now)
        return True

    async def _confirmed(self, query: Query, following: Following, denial: Reply) -> Reply:
        """Returns the answer of another upstream, or the denial if no other upstream has an answer."""
        key = (query.key, query.rtype, query.rclass)
        answer = following(query.changed(avoid=denial.source))
        other = answer if isinstance(answer, Reply) else await answer
        history: History | None = self._history.get(key)
        if is_answer(query, other):
            self._history[key] = History(history.first if history is not None else self._clock(), self._clock())
            return self._counted(query, "overruled", other)
        if other.has_message and message_type(query, other) in DENIALS:
            self._history.pop(key, None)
            return self._counted(query, "confirmed", denial)
        if history is None or self._clock() - history.unconfirmed_since > MAX_UNCONFIRMED:
            self._history.pop(key, None)
            return self._counted(query, "accepted", denial)
        return self._counted(query, "unconfirmed", msgspec.structs.replace(denial, scope=CacheScope.CLIENT))

    def _counted(self, query: Query, outcome: str, reply: Reply) -> Reply:
        self._counters.count(CONFIRMATIONS, query.server, *self._labels, outcome)
        return reply
