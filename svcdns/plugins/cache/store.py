"""What `cache` keeps: replies with the moment they were stored, in two bounded stores, findable by what they rest on.

Capacity is CoreDNS's: 256 shards of at least four entries, so 1,024 at least. The least recently used entry goes first; CoreDNS takes a
random one, which no client can tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec
from cachetools import LRUCache

from svcdns.plugins.cache.items import Item, Key, Parcel
from svcdns.plugins.cache.sizes import LARGEST, PER_ENTRY, Pool, octets
from svcdns.wire.reply import Owner

SHARDS: Final = 256
PER_SHARD: Final = 4
AT_ONCE: Final = 128
"""Entries that are given up at once: more than the largest new one needs (`sizes.LARGEST`), and a fraction of a millisecond."""


def capacity(asked: int) -> int:
    """Entries that a store of the asked size holds."""
    return max(asked // SHARDS, PER_SHARD) * SHARDS


class Store(LRUCache[Key, Item]):
    """One of the two stores. It may be given another size at any time; what is too much then goes a few entries at a time."""

    def __init__(self, size: int, pool: Pool, evicted: Callable[[], None]) -> None:
        """`size` is in entries, `evicted` is called for each entry that had to make room."""
        super().__init__(math.inf)
        self._pool, self._evicted = pool, evicted
        self._share = 1.0
        self._room = self._octets = 0
        self.octets = 0
        """What the entries take in memory."""
        self._owned: dict[Owner, set[Key]] = {}
        self.resize(size)
        pool.stores.append(self)

    def resize(self, size: int) -> None:
        """Takes another size, in entries."""
        self._size = capacity(size)
        self._bound()

    def stop(self) -> None:
        """Nobody asks this store any more."""
        self._pool.stores.remove(self)

    def put(self, key: Key, item: Item) -> None:
        """Stores an item, and remembers what it rests on. One that is large by itself is not stored."""
        self.pop(key, None)
        item.octets = octets(key[0], item.reply) + (octets(b"", item.good.reply) if item.good is not None else 0)
        if item.octets > LARGEST:
            return
        self._make_room(1, item.octets)
        for owner in item.owners:
            self._owned.setdefault(owner, set()).add(key)
        self.octets += item.octets
        self[key] = item

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
        """Gives up the least recently used entry."""
        self._evicted()
        self.popitem()

    def _bound(self) -> None:
        self._room = max(PER_SHARD, int(self._size * self._share))
        self._octets = self._room * PER_ENTRY

    def _is_over(self, entries: int = 0, more: int = 0) -> bool:
        return len(self) + entries > self._room or self.octets + more > self._octets

    def _make_room(self, entries: int, more: int) -> None:
        for _ in range(AT_ONCE):
            if self and self._is_over(entries, more):
                self.evict()
            elif self._pool.is_over(more):
                self._pool.evict()
            else:
                return

    def pack(self, now: float) -> Iterator[bytes]:
        """Its entries for another worker, the newest last; without what rests on facts of the cluster, which may have changed there."""
        for key in list(self):
            item: Item | None = self.get(key)
            if item is not None and not item.reply.owners:
                yield Parcel.of(key, item, now)

    def unpack(self, portion: bytes, now: float) -> None:
        """Stores an entry of another worker, unless there is one already. Raises msgspec.DecodeError."""
        key, item = msgspec.msgpack.decode(portion, type=Parcel).opened(now)
        if key not in self:
            self.put(key, item)

    def forget(self, owners: Iterable[Owner]) -> None:
        """Drops what rests on one of the owners."""
        if self._owned:
            for owner in owners:
                for key in self._owned.pop(owner, ()):
                    self.pop(key, None)

    def __delitem__(self, key: Key, *rest: Any) -> None:
        """Forgets what the entry rested on with it."""
        item = self.get(key)
        super().__delitem__(key, *rest)
        if item is not None:
            self.octets -= item.octets
        for owner in item.owners if item is not None else ():
            keys = self._owned.get(owner)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._owned[owner]
