"""Asking anew for what is kept: entries that are much asked for before they end (`prefetch`), and those that have ended (`serve_stale`).

Rules: one refresh for an entry at a time, and a bounded number at once; one that fails leaves the entry as it is; what it brings goes
into the cache whether a client still waits for it or not (RFC 8767 §4 and §5).
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
from svcdns.plugins.cache.entry import Item
from svcdns.plugins.cache.metrics import Cells
from svcdns.plugins.cache.options import Prefetch, Stale
from svcdns.wire.codes import AD

MAX_REFRESHES: Final = 512
"""Refreshes of one cache at once; entries beyond are served as they are."""


class Asked(msgspec.Struct, frozen=True):
    """A question to the cache: its key, the chain behind it, the counters of its server, when it came, and the changes before it."""

    query: Query
    key: Key
    following: Following
    cells: Cells
    now: float
    changes: int


class Taken(msgspec.Struct, frozen=True):
    """What the chain answered: as the client gets it, and as it was kept, if it was."""

    reply: Reply
    item: Item | None


Take = Callable[[Asked, Reply], Taken | None]
"""Takes a reply into the cache; None if it is no reason to give up what there is."""


class Refresher:
    """The refreshes of one cache."""

    def __init__(self, clock: Clock, recheck: float, log: logging.Logger) -> None:
        """`recheck` is the time in seconds after a failed refresh in which none is tried."""
        self._clock, self._recheck, self._log = clock, recheck, log
        self._tasks: set[asyncio.Task[Taken | None]] = set()

    def begin(self, asked: Asked, item: Item, take: Take) -> asyncio.Task[Taken | None] | None:
        """A new refresh of the entry, None where there must be none now."""
        if item.refresh is not None or asked.now < item.retry or len(self._tasks) >= MAX_REFRESHES:
            return None
        task = item.refresh = asyncio.ensure_future(self._renew(asked, item, take))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def renew(self, asked: Asked, item: Item, take: Take) -> Taken | None:
        """Asks the chain anew; None, and the entry is not asked for again for a while, if nothing comes of it."""
        taken = None
        try:
            answer = asked.following(asked.query.changed(flags=asked.query.flags | AD))
            taken = take(asked, answer if isinstance(answer, Reply) else await answer)
            return taken
        finally:
            item.retry = self._clock() + self._recheck if taken is None and self._recheck else float("-inf")

    async def _renew(self, asked: Asked, item: Item, take: Take) -> Taken | None:
        try:
            return await self.renew(asked, item, take)
        finally:
            item.refresh = None

    def _ended(self, task: asyncio.Task[Taken | None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._log.error("a refresh has failed: %r", task.exception())

    def stop(self) -> None:
        """Ends all that are under way."""
        for task in tuple(self._tasks):
            task.cancel()


def in_background(asked: Asked) -> Asked:
    """The same question without a client to fit a reply to: over TCP, so that nothing is truncated."""
    client = msgspec.structs.replace(asked.query.client, protocol="tcp")
    return msgspec.structs.replace(asked, query=asked.query.changed(client=client))


def used(item: Item, now: float, prefetch: Prefetch) -> tuple[bool, float]:
    """Notes a use of a live entry: whether it is to be renewed, and for how long its next uses need not be noted.

    Uses are noted one by one until they are enough; from then on there are taken to be some until the entry is to be renewed.
    """
    if now - item.seen > prefetch.gap:
        item.hits = 0
    item.hits += 1
    item.seen = now
    if item.hits < prefetch.amount:
        return False, 0.0
    threshold = math.ceil(prefetch.percentage / 100 * item.lifetime)
    left = item.lifetime - threshold - (now - item.stored)
    if left <= 0:
        return True, 0.0
    span = min(left, prefetch.gap)
    item.seen = now + span
    return False, span


def stale_span(item: Item, now: float, stale: Stale) -> float:
    """Seconds for which a stale reply may be used again: until a refresh is to be tried."""
    if item.refresh is not None:
        return 0.0
    return max(0.0, min(item.retry, item.stored + item.lifetime + stale.span) - now)
