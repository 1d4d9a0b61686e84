"""What `cache` keeps: replies with the moment they were stored, in two bounded stores, findable by what they rest on.

Capacity is CoreDNS's: 256 shards of at least four entries, so 1,024 at least. What has been asked for again and what has not stand apart:
of the latter the oldest goes first, while it has more than its share of the entries; else the least recently used of the former. So a
flood of names that nobody asks for twice costs the others at most that share. CoreDNS takes a random entry, which no client can tell."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec
from cachetools import LRUCache

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.fast_path import Key
from svcdns.plugins.cache.entry import Item, Parcel
from svcdns.plugins.cache.memory import LARGEST, PER_ENTRY, Pool, octets

SHARDS: Final = 256
PER_SHARD: Final = 4
SHARE_OF_ONCE: Final = 4
"""One part in so many of a store is for entries that were not asked for again."""
AT_ONCE: Final = 128
"""Entries that are given up at once: more than the largest new one needs (`sizes.LARGEST`), and a fraction of a millisecond."""

_ABSENT: Final = object()


def capacity(asked: int) -> int:
    """Entries that a store of the asked size holds."""
    return max(asked // SHARDS, PER_SHARD) * SHARDS


class Store:
    """One of the two stores. It may be given another size at any time; what is too much then goes a few entries at a time."""

    def __init__(self, size: int, pool: Pool, evicted: Callable[[], None]) -> None:
        """`size` is in entries, `evicted` is called for each entry that had to make room."""
        self._pool, self._evicted = pool, evicted
        self.items: dict[Key, Item] = {}
        """All entries; not to be changed from outside."""
        self._once: OrderedDict[Key, object] = OrderedDict()
        """Of entries that were not asked for again, in the order in which they came."""
        self._again: LRUCache[Key, None] = LRUCache(math.inf)
        self._share = 1.0
        self._room = self._octets = 0
        self.octets = 0
        """What the entries take in memory."""
        self._owned: dict[Dependency, set[Key]] = {}
        self.resize(size)
        pool.stores.append(self)

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self.items)

    def get(self, key: Key) -> Item | None:
        """The entry, which has been asked for again."""
        item = self.items.get(key)
        if item is not None:
            self._once.pop(key, None)
            self._again[key] = None
        return item

    def resize(self, size: int) -> None:
        """Takes another size, in entries."""
        self._size = capacity(size)
        self._bound()

    def stop(self) -> None:
        """Nobody asks this store any more."""
        self._pool.stores.remove(self)
        self._pool.octets -= self.octets

    def put(self, key: Key, item: Item) -> None:
        """Stores an item, and remembers what it rests on. One that is large by itself is not stored."""
        if key in self.items:
            self.drop(key)
        item.octets = octets(key[0], item.kept) + (octets(b"", item.good.kept) if item.good is not None else 0)
        if item.octets > LARGEST:
            return
        if self._is_over(1, item.octets) or self._pool.is_over(item.octets):
            self._make_room(1, item.octets)
        if not item.is_of_nothing:
            for owner in item.dependencies:
                self._owned.setdefault(owner, set()).add(key)
        self.octets += item.octets
        self._pool.octets += item.octets
        self.items[key] = item
        self._once[key] = None

    def drop(self, key: Key) -> None:
        """Takes an entry out, if it is there."""
        item = self.items.pop(key, None)
        if item is not None:
            if self._once.pop(key, _ABSENT) is _ABSENT:
                del self._again[key]
            self._gone(key, item)

    def _gone(self, key: Key, item: Item) -> None:
        self.octets -= item.octets
        self._pool.octets -= item.octets
        for owner in () if item.is_of_nothing else item.dependencies:
            keys = self._owned.get(owner)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._owned[owner]

    def shrink(self, share: float) -> Iterator[None]:
        """Keeps to a part of its size from now on. What is over it goes bit by bit, between the steps of the iterator."""
        self._share = share
        self._bound()
        self._pool.look()
        while self._is_over():
            self.evict()
            yield
        while self._pool.is_over():
            self._pool.evict()
            yield

    def trim(self) -> None:
        """Gives up a few of the entries that are too many."""
        self._make_room(0, 0)

    def evict(self) -> None:
        """Gives up an entry."""
        self._evicted()
        if len(self._once) * SHARE_OF_ONCE >= len(self.items):
            key, _ = self._once.popitem(last=False)
        else:
            key, _ = self._again.popitem()
        self._gone(key, self.items.pop(key))

    def _bound(self) -> None:
        self._room = max(PER_SHARD, int(self._size * self._share))
        self._octets = self._room * PER_ENTRY

    def _is_over(self, entries: int = 0, more: int = 0) -> bool:
        return len(self.items) + entries > self._room or self.octets + more > self._octets

    def _make_room(self, entries: int, more: int) -> None:
        for _ in range(AT_ONCE):
            if self._is_over(entries, more) and self.items:
                self.evict()
            elif self._pool.is_over(more):
                self._pool.evict()
            else:
                return

    def pack(self, now: float) -> Iterator[bytes]:
        """Its entries for another worker, the newest last; without what rests on facts of the cluster, which may have changed there."""
        for key in (*self._once, *self._again):
            item = self.items.get(key)
            if item is not None and not item.dependencies:
                yield Parcel.of(key, item, now)

    def unpack(self, portion: bytes, now: float) -> None:
        """Stores an entry of another worker, unless there is one already. Raises msgspec.DecodeError."""
        key, item = msgspec.msgpack.decode(portion, type=Parcel).opened(now)
        if key not in self.items:
            self.put(key, item)

    def invalidate(self, dependencies: Iterable[Dependency]) -> None:
        """Drops what rests on one of the owners."""
        if self._owned:
            for owner in dependencies:
                for key in self._owned.pop(owner, ()):
                    self.drop(key)
