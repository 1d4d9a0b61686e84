"""Refreshes entries: popular ones shortly before they expire (`prefetch`), and expired ones (`serve_stale`).

Rules: one refresh of an entry at a time, and at most MAX_REFRESHES in all. A refresh that fails leaves the entry as it
is. What a refresh brings is cached whether a client still waits for it or not (RFC 8767 §4 and §5).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Final

import msgspec

from svcdns.eventloop.clock import Clock
from svcdns.plugin_api.contract import Following
from svcdns.plugin_api.fast_path import Key
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.cache.entry import Entry
from svcdns.plugins.cache.metrics import Cells
from svcdns.plugins.cache.options import Prefetch, Stale
from svcdns.wire.codes import AD

MAX_REFRESHES: Final = 512
"""Refreshes of one cache at a time; further entries are served as they are."""


class Lookup(msgspec.Struct, frozen=True):
    """A query to the cache, and what is needed to store the reply.

    `now` is when it came; `changes` is the number of invalidations before it.
    """

    query: Query
    key: Key
    following: Following
    cells: Cells
    now: float
    changes: int


class Stored(msgspec.Struct, frozen=True):
    """A reply of the following plugins as the client gets it, and its entry if it was cached."""

    reply: Reply
    entry: Entry | None


StoreReply = Callable[[Lookup, Reply], Stored | None]
"""Caches a reply; None if the reply is no reason to give up the existing entry."""


class Refresher:
    """The refreshes of one cache."""

    def __init__(self, clock: Clock, recheck: float, log: logging.Logger) -> None:
        """`recheck` is the seconds after a failed refresh in which no other is tried."""
        self._clock, self._recheck, self._log = clock, recheck, log
        self._tasks: set[asyncio.Task[Stored | None]] = set()

    def start(self, lookup: Lookup, entry: Entry, store: StoreReply) -> asyncio.Task[Stored | None] | None:
        """Starts a refresh of the entry; None if none may be started now."""
        if entry.refresh is not None or lookup.now < entry.retry_after or len(self._tasks) >= MAX_REFRESHES:
            return None
        task = entry.refresh = asyncio.ensure_future(self._run(lookup, entry, store))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def refresh(self, lookup: Lookup, entry: Entry, store: StoreReply) -> Stored | None:
        """Asks the following plugins again. None if that fails; then no other refresh is tried for a while."""
        stored = None
        try:
            answer = lookup.following(lookup.query.changed(flags=lookup.query.flags | AD))
            stored = store(lookup, answer if isinstance(answer, Reply) else await answer)
            return stored
        finally:
            entry.retry_after = self._clock() + self._recheck if stored is None and self._recheck else float("-inf")

    async def _run(self, lookup: Lookup, entry: Entry, store: StoreReply) -> Stored | None:
        try:
            return await self.refresh(lookup, entry, store)
        finally:
            entry.refresh = None

    def _ended(self, task: asyncio.Task[Stored | None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._log.error("a refresh failed: %r", task.exception())

    def stop(self) -> None:
        """Cancels all refreshes."""
        for task in tuple(self._tasks):
            task.cancel()


def in_background(lookup: Lookup) -> Lookup:
    """The same lookup without a client whose reply could be truncated: over TCP."""
    client = msgspec.structs.replace(lookup.query.client, protocol="tcp")
    return msgspec.structs.replace(lookup, query=lookup.query.changed(client=client))


def note_hit(entry: Entry, now: float, prefetch: Prefetch) -> tuple[bool, float]:
    """Notes a hit of an unexpired entry. Returns whether to refresh it, and a span in seconds.

    Within that span further hits need not be noted.

    Hits are noted one by one until they are as many as `prefetch` asks for. From then on, the entry is taken to be in
    use until the time to refresh it.
    """
    if now - entry.last_hit > prefetch.gap:
        entry.hits = 0
    entry.hits += 1
    entry.last_hit = now
    if entry.hits < prefetch.amount:
        return False, 0.0
    threshold = math.ceil(prefetch.percentage / 100 * entry.lifetime)
    left = entry.lifetime - threshold - (now - entry.stored)
    if left <= 0:
        return True, 0.0
    span = min(left, prefetch.gap)
    entry.last_hit = now + span
    return False, span


def stale_span(entry: Entry, now: float, stale: Stale) -> float:
    """Seconds for which a stale reply may be reused: until the next refresh is due."""
    if entry.refresh is not None:
        return 0.0
    return max(0.0, min(entry.retry_after, entry.stored + entry.lifetime + stale.span) - now)
