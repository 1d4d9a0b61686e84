"""The `cache` plugin: keeps what others answered for as long as its TTLs allow (docs/behaviour/plugins.md#cache).

An answer that rests on the cluster alone is never kept: it gets the TTLs that CoreDNS's cache would show and is counted, but it lives
until the cluster changes. What is kept and rests on the cluster in part (an alias to an outside name, an address that the cluster does
not know) is dropped when that part changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec

from svcdns.plugin_api.contract import Following, then
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath, Key
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Increment, Reply
from svcdns.plugins.cache.denial_confirmation import Doubts
from svcdns.plugins.cache.entry import Item
from svcdns.plugins.cache.lookup import Keeper, covered, wire, with_ttl
from svcdns.plugins.cache.memory import Pool
from svcdns.plugins.cache.metrics import Cells
from svcdns.plugins.cache.options import MAX_STALE, Bounds, Options
from svcdns.plugins.cache.refresh import Asked, Refresher, Taken, in_background, stale_span, used
from svcdns.plugins.cache.store import Store
from svcdns.wire import names
from svcdns.wire.codes import AA, AD, CD, RA, RD, ExtendedError, Rcode


class Cache:
    """The cache of one block. Its stores outlive a change of the chain."""

    name = "cache"

    def __init__(self, options: Options, environment: Environment) -> None:
        """Stores are the environment's, by block."""
        self._options, self._clock, self._counters = options, environment.clock, environment.counters
        self._stale = options.stale
        self._log, self._first, self._peers = environment.log, environment.first, environment.peers
        self._refresher = Refresher(environment.clock, options.stale.recheck, environment.log)
        self._zones, self._of_block = wire(options.zones), wire(environment.block.zones)
        self._no_denial = wire(options.no_denial)
        self._view = environment.view
        self._label = ",".join(options.zones)
        self._cells: dict[str, Cells] = {}
        first = self._cells_of(environment.server)
        self._pool: Pool = environment.kept(("cache", "pool"), lambda: Pool(environment.allowance))
        where = ("cache", environment.server, environment.view, environment.block.zones, options.zones)
        self._success: Store = environment.kept((*where, "success"), lambda: self._store("success", options.success, first))
        self._denial: Store = environment.kept((*where, "denial"), lambda: self._store("denial", options.denial, first))
        after = options.confirm_after
        self._doubts = None if after is None else Doubts(after, environment.clock, self._counters, self._label, self._view)
        self._keeper = Keeper(options, self._success, self._denial, environment.clock)

    def _store(self, which: str, bounds: Bounds, cells: Cells) -> Store:
        counters, cell = self._counters, cells.evictions[which]
        return Store(bounds.capacity, self._pool, lambda: counters.add(cell))

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Keeps plain replies to what it knows nothing of; the rest goes through the chain, and all of it where denials are doubted."""
        if self._doubts is not None or not all(covered(zone, self._zones) for zone in self._of_block):
            return False
        fast_path.zones += (*self._no_denial, *self._keeper.no_success)
        fast_path.knows, fast_path.keep = self._keeper.knows, self._keeper.take_plain
        fast_path.increments = self._increments_of_a_miss
        return True

    def _increments_of_a_miss(self, server: str) -> tuple[Increment, ...]:
        cells = self._cells_of(server)
        return ((cells.requests, 1.0), (cells.misses, 1.0))

    def start(self) -> None:
        """Gives stores that were there before their new sizes."""
        self._success.resize(self._options.success.capacity)
        self._denial.resize(self._options.denial.capacity)
        if self._stale.up_to > MAX_STALE and self._first:
            self._log.warning("serve_stale is for longer than %d days: what has ended is kept no longer than that", MAX_STALE // 86400)

    def _cells_of(self, server: str) -> Cells:
        cells = self._cells.get(server)
        if cells is None:
            cells = self._cells[server] = Cells(self._counters, server, self._label, self._view)
        return cells

    def invalidate(self, dependencies: set[tuple[str, ...]]) -> None:
        """Drops what rests on one of the owners."""
        self._keeper.invalidate(dependencies)

    def name_independent(self, zone: bytes) -> bool:
        """Whether no denial of this zone is stored, so that none has another client's spelling, and no other rule begins inside it."""
        stored = covered(zone, self._zones) and not covered(zone, self._no_denial)
        return not stored and not any(other != zone and names.is_within(other, zone) for other in (*self._zones, *self._no_denial))

    def shrink(self, share: float) -> Iterator[None]:
        """Keeps to a part of the stores' sizes."""
        yield from self._success.shrink(share)
        yield from self._denial.shrink(share)

    def tick(self) -> None:
        """Shows how many entries there are, and gives up some of those that are too many; called about once a second."""
        self._pool.look()
        for which, store in (("success", self._success), ("denial", self._denial)):
            store.trim()
            for cells in self._cells.values():
                self._counters.set(cells.entries[which], len(store))
                self._counters.set(cells.octets[which], store.octets)

    def stop(self) -> None:
        """Ends what is under way in the background."""
        self._refresher.stop()

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers from what is kept, or asks on and keeps the reply."""
        if not covered(query.key, self._zones):
            return following(query)
        cells, now = self._cells_of(query.server), self._clock()
        self._counters.add(cells.requests)
        key: Key = (query.key, query.rtype, query.rclass, query.dnssec_ok, bool(query.flags & CD))
        if self._doubts is not None:
            following = self._doubts.before(following)
        asked = Asked(query, key, following, cells, now, self._keeper.changes)
        unheeded = query.upstream_reply is not None or self._keeper.never_stores(query.key)
        found = None if unheeded else self._keeper.find(asked.key, now)
        if found is None:
            self._counters.add(cells.misses)
            return self._missed(asked)
        which, item = found
        self._counters.add(cells.hits[which])
        increments = ((cells.requests, 1.0), (cells.hits[which], 1.0))
        return self._live(asked, item, increments) if item.remaining(now) > 0 else self._ended(asked, item, increments)

    def _missed(self, asked: Asked) -> Answer:
        query, spelling = asked.query, self._keeper.spelling(asked)
        if spelling is None or spelling.name == query.name:
            answer = asked.following(msgspec.structs.replace(query, flags=query.flags | AD))
            return then(answer, lambda reply: self._keeper.take(asked, reply).reply)
        left = spelling.until - asked.now

        def spelled(reply: Reply) -> Reply:
            out = self._keeper.take(asked, reply).reply
            return msgspec.structs.replace(out, lifetime=min(left, out.lifetime))

        return then(asked.following(query.changed(name=spelling.name, flags=query.flags | AD)), spelled)

    # -- what goes out

    def _live(self, asked: Asked, item: Item, increments: tuple[Increment, ...]) -> Reply:
        span = UNTIL_CHANGED
        if self._options.prefetch.amount:
            due, span = used(item, asked.now, self._options.prefetch)
            if due and self._refresher.begin(in_background(asked), item, self._keeper.take_in_background(item)):
                self._counters.add(asked.cells.prefetches)
        elapsed = asked.now - item.stored
        into = elapsed - int(elapsed)
        remaining = item.remaining(asked.now)
        lifetime = min(span, remaining - into)
        if self._options.keepttl:
            return self._shown(asked.query, item, item.lifetime, increments, lifetime)
        return self._shown(asked.query, item, remaining, increments, lifetime, 1.0 - into)

    def _ended(self, asked: Asked, item: Item, increments: tuple[Increment, ...]) -> Answer:
        """Serves an entry that has ended, and asks anew, before or meanwhile. Upstreams that are known to be down are not waited for."""
        if not self._stale.verify or self._is_hopeless(asked.query):
            if self._refresher.begin(in_background(asked), item, self._keeper.take_in_background(item, judged=True)):
                self._counters.add(asked.cells.prefetches)
        elif self._stale.timeout or self._stale.recheck:
            task = self._refresher.begin(asked, item, self._keeper.take_fresh)
            if task is None and not self._stale.recheck:
                task = item.refresh
            if task is not None:
                return self._verified_in_time(asked, item, increments, task)
        else:
            return self._verified(asked, item, increments)
        return self._stale_reply(asked, item, increments)

    def _is_hopeless(self, query: Query) -> bool:
        """Whether what is behind the cache knows that nobody would answer."""
        return any(peer.is_down(query.key) for peer in self._peers("forward"))

    async def _verified(self, asked: Asked, item: Item, increments: tuple[Increment, ...]) -> Reply:
        taken = await self._refresher.renew(asked, item, self._keeper.take_fresh)
        return taken.reply if taken is not None else self._stale_reply(asked, item, increments)

    async def _verified_in_time(
        self, asked: Asked, item: Item, increments: tuple[Increment, ...], task: asyncio.Task[Taken | None]
    ) -> Reply:
        """What the refresh brings, or the entry where that takes too long. Others may wait for the same refresh."""
        timeout = self._stale.timeout or None
        done, _ = await asyncio.wait((task,), timeout=timeout)
        taken = task.result() if done and not task.cancelled() and task.exception() is None else None
        if taken is None:
            return self._stale_reply(asked, item, increments)
        if taken.item is not None and timeout:
            return self._live(msgspec.structs.replace(asked, now=self._clock()), taken.item, increments)
        return msgspec.structs.replace(taken.reply, flags=taken.reply.flags & ~(RD | CD) | asked.query.reply_flags)

    def _stale_reply(self, asked: Asked, item: Item, increments: tuple[Increment, ...]) -> Reply:
        self._counters.add(asked.cells.stale)
        ttl = self._stale.ttl or (item.lifetime if self._options.keepttl else 0)
        span = stale_span(item, self._clock(), self._stale)
        shown = self._shown(asked.query, item, ttl, (*increments, (asked.cells.stale, 1.0)), span)
        code = ExtendedError.STALE_NXDOMAIN_ANSWER if shown.rcode == Rcode.NXDOMAIN else ExtendedError.STALE_ANSWER
        return msgspec.structs.replace(shown, extended=code)

    def _shown(
        self, query: Query, item: Item, ttl: int, increments: tuple[Increment, ...], lifetime: float, next_second: float = UNTIL_CHANGED
    ) -> Reply:
        reply = item.reply
        flags = query.reply_flags | AA | reply.flags & RA
        if query.flags & AD or query.dnssec_ok:
            flags |= reply.flags & AD
        return msgspec.structs.replace(
            with_ttl(reply, ttl), flags=flags, has_message=True, error="", lifetime=lifetime, next_second=next_second, increments=increments
        )
