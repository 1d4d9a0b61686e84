"""The `cache` plugin: stores replies for as long as their TTLs allow (docs/behaviour/plugins.md#cache).

An answer that depends only on cluster data is not stored: it is valid until the data change. The plugin gives such an
answer the TTLs of CoreDNS's cache, and counts it in the metrics. An answer that depends partly on cluster data is
stored, and removed when the data change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from svcdns.log_line import LogLine
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import CachedReply, FastPath, Key
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Increment, Reply
from svcdns.plugin_api.settings import Settings
from svcdns.plugins.cache.cold_path import ColdRules
from svcdns.plugins.cache.denial_confirmation import DenialConfirmation
from svcdns.plugins.cache.entry import Entry
from svcdns.plugins.cache.lookup import CachedReplies, wire_names, with_ttl, within_any
from svcdns.plugins.cache.memory import MemoryBudget
from svcdns.plugins.cache.metrics import Cells
from svcdns.plugins.cache.options import MAX_STALE, Bounds, Options
from svcdns.plugins.cache.refresh import Lookup, Refresher, Stored, in_background, note_hit, stale_span
from svcdns.plugins.cache.store import Store
from svcdns.wire import names
from svcdns.wire.codes import AA, AD, CD, RA, RD, ExtendedError, Rcode
from svcdns.wire.edns import subnet_scope

if TYPE_CHECKING:
    from svcdns.plugin_api.stored import Selection, StoredReply


class Cache(Plugin):
    """The cache of one block. The stored replies stay when the Corefile is reloaded."""

    name = "cache"
    states_reuse = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Takes the block's two stores of replies from the environment.

        The stores stay when the Corefile is reloaded.
        """
        self._options, self._clock, self._counters = options, environment.clock, environment.counters
        self._stale = options.stale
        self._log, self._first, self._peers = environment.log, environment.first, environment.peers
        self._refresher = Refresher(environment.clock, options.stale.recheck, environment.log)
        self._zones, self._block_zones = wire_names(options.zones), wire_names(environment.block.zones)
        self._no_denial = wire_names(options.no_denial)
        self._view, self._server = environment.view, environment.server
        self._label = ",".join(options.zones)
        self._cells: dict[str, Cells] = {}
        first = self._cells_of(environment.server)
        self._budget: MemoryBudget = environment.kept(("cache", "pool"), lambda: MemoryBudget(environment.allowance))
        where: tuple[object, ...] = (
            "cache",
            environment.server,
            environment.view,
            environment.block.zones,
            options.zones,
        )
        conditions = [d for d in environment.block.others if d.name.text == "view"]
        if conditions:  # two blocks may have views of the same name
            words = [word.text for d in conditions for line in (d, *(d.body or ())) for word in line.arguments]
            where += (" ".join(words),)
        self._success: Store = environment.kept(
            (*where, "success"), lambda: self._store("success", options.success, first)
        )
        self._denial: Store = environment.kept((*where, "denial"), lambda: self._store("denial", options.denial, first))
        after = options.confirm_after
        self._confirmation = (
            None
            if after is None
            else DenialConfirmation(after, environment.clock, self._counters, self._label, self._view)
        )
        self._replies = CachedReplies(options, self._success, self._denial, environment.clock)

    def _store(self, which: str, bounds: Bounds, cells: Cells) -> Store:
        counters, cell = self._counters, cells.evictions[which]
        return Store(bounds.capacity, self._budget, partial(counters.add, cell))

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True: the stored replies of the cache also stay when the Corefile is reloaded."""
        return True

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Lets the fast path (forwarding without the plugin chain) store its replies in this cache, and returns True.

        If denial confirmation is on, or the cache does not cover all zones of the block, returns False: the block then
        has no fast path.
        """
        if self._confirmation is not None or not all(within_any(zone, self._zones) for zone in self._block_zones):
            return False
        fast_path.zones += (*self._no_denial, *self._replies.no_success)
        fast_path.knows, fast_path.keep = self._replies.has, self._replies.store_simple
        fast_path.changes = lambda: self._replies.changes
        fast_path.increments = self._increments_of_a_miss
        fast_path.cached = self._cached
        return True

    def join_cold_path(self, cold_path: ColdPath) -> bool:
        """Sets how this cache treats replies of the cold path (replies without the plugin chain), and returns True.

        Zones in which some names have other rules are excluded. If denial confirmation is on, returns False.
        """
        if self._confirmation is not None:
            return False
        rules = ColdRules(self._replies, self._cells_of)
        cold_path.zones = tuple(zone for zone in cold_path.zones if self._covers_uniformly(zone))
        cold_path.cache = rules
        return True

    def _covers_uniformly(self, zone: bytes) -> bool:
        """Returns True if this cache covers the zone, and each option applies to the whole zone or to no part of it."""
        others = (*self._zones, *self._no_denial, *self._replies.no_success)
        return within_any(zone, self._zones) and not any(
            other != zone and names.is_within(other, zone) for other in others
        )

    def _cached(self, key: Key, server: str) -> CachedReply | None:
        """Returns the stored reply for the fast path, with the TTLs that `_hit` would set.

        Returns None, and removes the entry, if it has expired. Also returns None if `handle` must answer.
        """
        now = self._clock()
        found = self._replies.find(key, now)
        if found is None:
            return None
        which, entry = found
        remaining = entry.remaining(now)
        if remaining <= 0 or not isinstance(entry.content, bytes) or entry.packet_dependencies:
            return None
        if self._options.prefetch.amount:
            return None
        cells, elapsed = self._cells_of(server), now - entry.stored
        fraction = elapsed - int(elapsed)
        increments = ((cells.requests, 1.0), (cells.hits[which], 1.0))
        if self._options.keepttl:
            return CachedReply(entry.content, entry.lifetime, remaining - fraction, UNTIL_CHANGED, increments)
        return CachedReply(entry.content, remaining, remaining - fraction, 1.0 - fraction, increments)

    def _increments_of_a_miss(self, server: str) -> tuple[Increment, ...]:
        cells = self._cells_of(server)
        return ((cells.requests, 1.0), (cells.misses, 1.0))

    def start(self) -> None:
        """Sets the sizes of the stores from the options, and removes the entries that were made from cluster data."""
        for store, size in ((self._success, self._options.success), (self._denial, self._options.denial)):
            store.resize(size.capacity)
            store.remove_dependents()
        if self._stale.up_to > MAX_STALE and self._first:
            line = LogLine("serve_stale is too long: expired entries are kept for fewer days", days=MAX_STALE // 86400)
            self._log.warning(line)

    def _cells_of(self, server: str) -> Cells:
        cells = self._cells.get(server)
        if cells is None:
            cells = self._cells[server] = Cells(self._counters, server, self._label, self._view)
        return cells

    def invalidate(self, dependencies: set[tuple[str, ...]]) -> None:
        """Removes the entries that were made from one of the objects in `dependencies`."""
        self._replies.invalidate(dependencies)

    def name_independent(self, zone: bytes) -> bool:
        """Returns True if this cache never stores denials for the zone."""
        stored = within_any(zone, self._zones) and not within_any(zone, self._no_denial)
        others = (*self._zones, *self._no_denial)
        return not stored and not any(other != zone and names.is_within(other, zone) for other in others)

    def stored_replies(self, selection: Selection) -> Iterator[StoredReply | None]:
        """Yields the entries that a tool has selected."""
        from svcdns.plugins.cache.inspection import listed  # imported here, because only tools need it

        for store in (self._success, self._denial):
            yield from listed(self._replies, store, self._options, self._server, selection, self._clock())

    def drop_replies(self, selection: Selection) -> Iterator[int]:
        """Drops the entries that a tool has selected."""
        from svcdns.plugins.cache.inspection import dropped

        self._replies.invalidate(set())  # replies to earlier queries that depend on data are not stored any more
        for store in (self._success, self._denial):
            yield from dropped(self._replies, store, selection, self._clock())

    def shrink(self, share: float) -> Iterator[None]:
        """Limits the stores to `share` of their sizes. Each step of the iterator evicts one entry."""
        yield from self._success.shrink(share)
        yield from self._denial.shrink(share)

    def tick(self) -> None:
        """Updates the gauges, and evicts some entries if a store is too large. Called about once a second."""
        self._budget.update_limit()
        for which, store in (("success", self._success), ("denial", self._denial)):
            store.trim()
            for cells in self._cells.values():
                self._counters.set(cells.entries[which], len(store))
                self._counters.set(cells.octets[which], store.octets)

    def stop(self) -> None:
        """Cancels all refreshes that are running."""
        self._refresher.stop()
        self._replies.invalidate(set())

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers from a stored entry. If there is none, calls the following plugins and stores their reply."""
        if not within_any(query.key, self._zones):
            return following(query)
        cells, now = self._cells_of(query.listener), self._clock()
        self._counters.add(cells.requests)
        key: Key = (query.key, query.rtype, query.rclass, query.dnssec_ok, bool(query.flags & CD))
        if self._confirmation is not None:
            following = self._confirmation.confirming(following)
        lookup = Lookup(query, key, following, cells, now, self._replies.changes)
        bypassed = (
            query.upstream_reply is not None
            or subnet_scope(query.edns) is not None
            or self._replies.never_stores(query.key)
        )
        found = None if bypassed else self._replies.find(key, now)
        if found is None:
            self._counters.add(cells.misses)
            return self._miss(lookup)
        which, entry = found
        self._counters.add(cells.hits[which])
        increments = ((cells.requests, 1.0), (cells.hits[which], 1.0))
        expired = entry.remaining(now) <= 0
        return self._expired(lookup, entry, increments) if expired else self._hit(lookup, entry, increments)

    def _miss(self, lookup: Lookup) -> Answer:
        query, spelling = lookup.query, self._replies.spelling(lookup)
        if spelling is None or spelling[0] == query.name:
            answer = lookup.following(msgspec.structs.replace(query, flags=query.flags | AD))
            return then(answer, lambda reply: self._replies.store(lookup, reply).reply)
        name, until = spelling
        left = until - lookup.now

        def spelled(reply: Reply) -> Reply:
            out = self._replies.store(lookup, reply).reply
            return msgspec.structs.replace(out, lifetime=min(left, out.lifetime))

        return then(lookup.following(query.changed(name=name, flags=query.flags | AD)), spelled)

    # -- replies from entries

    def _hit(self, lookup: Lookup, entry: Entry, increments: tuple[Increment, ...]) -> Reply:
        span = UNTIL_CHANGED
        if self._options.prefetch.amount:
            due, span = note_hit(entry, lookup.now, self._options.prefetch)
            store = self._replies.storing_in_background(entry)
            if due and self._refresher.start(in_background(lookup), entry, store):
                self._counters.add(lookup.cells.prefetches)
        elapsed = lookup.now - entry.stored
        fraction = elapsed - int(elapsed)
        remaining = entry.remaining(lookup.now)
        lifetime = min(span, remaining - fraction)
        if self._options.keepttl:
            return self._reply(lookup.query, entry, entry.lifetime, increments, lifetime)
        return self._reply(lookup.query, entry, remaining, increments, lifetime, 1.0 - fraction)

    def _expired(self, lookup: Lookup, entry: Entry, increments: tuple[Increment, ...]) -> Answer:
        """Answers a query for which only an expired entry is stored: with this entry, or with the reply of a refresh.

        If all upstreams are down, the client does not wait for the refresh.
        """
        if not self._stale.verify or self._upstreams_down(lookup.query):
            store = self._replies.storing_in_background(entry, only_fresh=True)
            if self._refresher.start(in_background(lookup), entry, store):
                self._counters.add(lookup.cells.prefetches)
        elif self._stale.timeout or self._stale.recheck:
            task = self._refresher.start(lookup, entry, self._replies.store_fresh)
            if task is None and not self._stale.recheck:
                task = entry.refresh
            if task is not None:
                return self._verified_in_time(lookup, entry, increments, task)
        else:
            return self._verified(lookup, entry, increments)
        return self._stale_reply(lookup, entry, increments)

    def _upstreams_down(self, query: Query) -> bool:
        return any(peer.is_down(query.key) for peer in self._peers("forward"))

    async def _verified(self, lookup: Lookup, entry: Entry, increments: tuple[Increment, ...]) -> Reply:
        stored = await self._refresher.refresh(lookup, entry, self._replies.store_fresh)
        return stored.reply if stored is not None else self._stale_reply(lookup, entry, increments)

    async def _verified_in_time(
        self, lookup: Lookup, entry: Entry, increments: tuple[Increment, ...], task: asyncio.Task[Stored | None]
    ) -> Reply:
        """Returns the reply of the refresh `task`. Returns the expired entry if the refresh fails or takes too long."""
        timeout = self._stale.timeout or None
        done, _ = await asyncio.wait((task,), timeout=timeout)
        stored = task.result() if done and not task.cancelled() and task.exception() is None else None
        if stored is None:
            return self._stale_reply(lookup, entry, increments)
        if stored.entry is not None and timeout:
            return self._hit(msgspec.structs.replace(lookup, now=self._clock()), stored.entry, increments)
        flags = stored.reply.flags & ~(RD | CD) | lookup.query.reply_flags
        return msgspec.structs.replace(stored.reply, flags=flags)

    def _stale_reply(self, lookup: Lookup, entry: Entry, increments: tuple[Increment, ...]) -> Reply:
        self._counters.add(lookup.cells.stale)
        ttl = self._stale.ttl or (entry.lifetime if self._options.keepttl else 0)
        span = stale_span(entry, self._clock(), self._stale)
        reply = self._reply(lookup.query, entry, ttl, (*increments, (lookup.cells.stale, 1.0)), span)
        code = ExtendedError.STALE_NXDOMAIN_ANSWER if reply.rcode == Rcode.NXDOMAIN else ExtendedError.STALE_ANSWER
        return msgspec.structs.replace(reply, extended=code)

    def _reply(
        self,
        query: Query,
        entry: Entry,
        ttl: int,
        increments: tuple[Increment, ...],
        lifetime: float,
        next_second: float = UNTIL_CHANGED,
    ) -> Reply:
        reply = entry.reply
        flags = query.reply_flags | AA | reply.flags & RA
        if query.flags & AD or query.dnssec_ok:
            flags |= reply.flags & AD
        return msgspec.structs.replace(
            with_ttl(reply, ttl),
            flags=flags,
            has_message=True,
            error="",
            lifetime=lifetime,
            next_second=next_second,
            increments=increments,
        )
