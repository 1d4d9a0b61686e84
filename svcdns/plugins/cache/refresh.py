"""Refreshes entries: popular entries shortly before they expire (`prefetch`), and expired entries (`serve_stale`).

Rules: at most one refresh of an entry runs at a time, and at most MAX_REFRESHES refreshes of a cache. If a refresh
fails, its entry stays. The reply of a refresh is cached even if no client waits for it (RFC 8767 §4 and §5).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Final

import msgspec

from svcdns.eventloop.clock import Clock
from svcdns.log_line import LogLine
from svcdns.plugin_api.contract import Following
from svcdns.plugin_api.fast_path import Key
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.cache.entry import Entry
from svcdns.plugins.cache.metrics import Cells
from svcdns.plugins.cache.options import Prefetch, Stale
from svcdns.telemetry.logging import LineLimit
from svcdns.wire.codes import AD

MAX_REFRESHES: Final = 512
"""The most refreshes of one cache that run at a time. Further entries are served without a refresh."""


class Lookup(msgspec.Struct, frozen=True):
    """A query to the cache, with the values that are needed to store its reply.

    `now` is the time at which the query arrived. `changes` is the number of changes of the cluster until then. If the
    cluster changes before the reply arrives, a reply made from cluster data is not stored.
    """

    query: Query
    key: Key
    following: Following
    cells: Cells
    now: float
    changes: int


class Stored(msgspec.Struct, frozen=True):
    """The reply for the client, and the new cache entry. The entry is None if the reply was not stored."""

    reply: Reply
    entry: Entry | None


StoreReply = Callable[[Lookup, Reply], Stored | None]
"""A function that caches a reply. It returns None if the existing entry must stay."""


class Refresher:
    """Starts the refreshes of entries in one cache, and limits their number."""

    def __init__(self, clock: Clock, recheck: float, log: logging.Logger) -> None:
        """After a failed refresh, no other refresh of the entry starts for `recheck` seconds."""
        self._clock, self._recheck, self._log = clock, recheck, log
        self._limit = LineLimit()
        self._tasks: set[asyncio.Task[Stored | None]] = set()

    def start(self, lookup: Lookup, entry: Entry, store: StoreReply) -> asyncio.Task[Stored | None] | None:
        """Starts a refresh of the entry. Returns None if no refresh may be started now."""
        if entry.refresh is not None or lookup.now < entry.retry_after or len(self._tasks) >= MAX_REFRESHES:
            return None
        task = entry.refresh = asyncio.ensure_future(self._run(lookup, entry, store))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def refresh(self, lookup: Lookup, entry: Entry, store: StoreReply) -> Stored | None:
        """Calls the following plugins again, passes their reply to `store`, and returns the result of `store`.

        If an exception is raised, or `store` returns None, the next refresh of the entry starts after `recheck` seconds
        at the earliest.
        """
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
            self._limit.log(self._log, logging.ERROR, LogLine("a refresh failed"), error=task.exception())

    def stop(self) -> None:
        """Cancels all refreshes."""
        for task in tuple(self._tasks):
            task.cancel()


def in_background(lookup: Lookup) -> Lookup:
    """Returns a copy of `lookup` whose query claims to have arrived over TCP, so that the reply is not truncated."""
    client = msgspec.structs.replace(lookup.query.client, protocol="tcp")
    return msgspec.structs.replace(lookup, query=lookup.query.changed(client=client))


def note_hit(entry: Entry, now: float, prefetch: Prefetch) -> tuple[bool, float]:
    """Counts a hit of an entry that has not expired.

    Returns True if the entry must be refreshed now, and the number of seconds in which further hits need not be
    counted.
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
    """Returns the seconds for which an expired entry may be served without another look-up.

    The time ends when the next refresh may start, or when the entry is too old to be served. The result is 0 while a
    refresh runs.
    """
    if entry.refresh is not None:
        return 0.0
    return max(0.0, min(entry.retry_after, entry.stored + entry.lifetime + stale.span) - now)
