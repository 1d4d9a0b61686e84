"""A bounded store of cache entries, which are found by key or by dependency.

The capacity is that of CoreDNS: 256 shards of at least four entries. Entries that were never used may fill at most
USED_ONCE_SHARE of the store. If they exceed this share, the oldest of them is evicted. Otherwise the least recently
used entry of the store is evicted.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec
from cachetools import LRUCache

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.fast_path import Key
from svcdns.plugins.cache.entry import Entry, WireEntry
from svcdns.plugins.cache.memory import DEPENDENCY, LARGEST, PER_ENTRY, MemoryBudget, memory_of

SHARDS: Final = 256
PER_SHARD: Final = 4
USED_ONCE_SHARE: Final = 4
"""The part of the store for entries that were never used since they were stored: 1 / USED_ONCE_SHARE."""
MAX_EVICTIONS: Final = 128
"""The most entries that are evicted at a time.

So many evictions free more memory than the largest entry takes (`memory.LARGEST`). They take a fraction of a
millisecond.
"""

_MISSING: Final = object()


def capacity(size: int) -> int:
    """Returns the number of entries that a store holds if the Corefile states `size`."""
    return max(size // SHARDS, PER_SHARD) * SHARDS


def _octets_of(entry: Entry) -> int:
    """Returns the octets that an entry takes as the earlier answer of another entry."""
    return memory_of(b"", entry.content) + DEPENDENCY * len(entry.packet_dependencies)


class Store:
    """A store of cache entries.

    If its size is reduced, the excess entries are evicted a few at a time.
    """

    def __init__(self, size: int, budget: MemoryBudget, evicted: Callable[[], None]) -> None:
        """`size` is in entries; `evicted` is called for each evicted entry."""
        self._budget, self._evicted = budget, evicted
        self.entries: dict[Key, Entry] = {}
        """All entries by key. Other classes may only read it."""
        self._used_once: OrderedDict[Key, object] = OrderedDict()
        """The keys of the entries that were never used since they were stored, oldest first."""
        self._reused: LRUCache[Key, None] = LRUCache(math.inf)
        self._share = 1.0
        self._max_entries = self._max_octets = 0
        self.octets = 0
        """The octets that all entries of this store take."""
        self._dependents: dict[Dependency, set[Key]] = {}
        self.resize(size)
        budget.stores.append(self)

    def __len__(self) -> int:
        """Returns the number of entries."""
        return len(self.entries)

    def get(self, key: Key) -> Entry | None:
        """Returns the entry of a key, or None. Marks the entry as used."""
        entry = self.entries.get(key)
        if entry is not None:
            self._used_once.pop(key, None)
            self._reused[key] = None
        return entry

    def resize(self, size: int) -> None:
        """Sets the size, in entries."""
        self._size = capacity(size)
        self._set_bounds()

    def stop(self) -> None:
        """Removes the store from the memory budget. Call it when the store is no longer used."""
        self._budget.stores.remove(self)
        self._budget.octets -= self.octets

    def put(self, key: Key, entry: Entry) -> None:
        """Stores an entry. Replaces the previous entry of the key.

        An entry larger than LARGEST octets is not stored, but still removes the previous entry.
        """
        entries, budget = self.entries, self._budget
        if key in entries:
            self.remove(key)
        octets = memory_of(key[0], entry.content)
        octets += DEPENDENCY * len(entry.packet_dependencies)
        if entry.last_answer is not None:
            octets += _octets_of(entry.last_answer)
        entry.octets = octets
        if octets > LARGEST:
            return
        if (
            len(entries) >= self._max_entries
            or self.octets + octets > self._max_octets
            or budget.octets + octets > budget.limit
        ):
            self._make_room(1, octets)
        if entry.packet_dependencies or entry.last_answer is not None or type(entry.content) is not bytes:
            for dependency in entry.dependencies:
                keys = self._dependents.get(dependency)
                if keys is None:
                    self._dependents[dependency] = {key}
                else:
                    keys.add(key)
        self.octets += octets
        budget.octets += octets
        entries[key] = entry
        self._used_once[key] = None

    def remove(self, key: Key) -> None:
        """Removes the entry of a key, if there is one."""
        entry = self.entries.pop(key, None)
        if entry is not None:
            if self._used_once.pop(key, _MISSING) is _MISSING:
                del self._reused[key]
            self._account_removal(key, entry)

    def _account_removal(self, key: Key, entry: Entry) -> None:
        self.octets -= entry.octets
        self._budget.octets -= entry.octets
        if not self._dependents:
            return
        for dependency in entry.dependencies:
            keys = self._dependents.get(dependency)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._dependents[dependency]

    def shrink(self, share: float) -> Iterator[None]:
        """Limits the store to `share` of its size. Each step of the iterator evicts one entry."""
        self._share = share
        self._set_bounds()
        self._budget.update_limit()
        while len(self.entries) > self._max_entries or self.octets > self._max_octets:
            self.evict()
            yield
        while self._budget.is_exceeded():
            self._budget.evict()
            yield

    def trim(self) -> None:
        """Evicts a few entries if the store has too many."""
        self._make_room(0, 0)

    def evict(self) -> None:
        """Evicts one entry, chosen by the rules of this module."""
        self._evicted()
        if len(self._used_once) * USED_ONCE_SHARE >= len(self.entries):
            key, _ = self._used_once.popitem(last=False)
        else:
            key, _ = self._reused.popitem()
        self._account_removal(key, self.entries.pop(key))

    def _set_bounds(self) -> None:
        self._max_entries = max(PER_SHARD, int(self._size * self._share))
        self._max_octets = self._max_entries * PER_ENTRY

    def _make_room(self, entries: int, more: int) -> None:
        """Evicts entries, so that there is room for `entries` more entries of `more` octets. Evicts MAX_EVICTIONS at
        most.
        """
        budget, most = self._budget, self._max_entries - entries
        for _ in range(MAX_EVICTIONS):
            if (len(self.entries) > most or self.octets + more > self._max_octets) and self.entries:
                self.evict()
            elif budget.octets + more > budget.limit and budget.is_exceeded(more):
                budget.evict()
            else:
                return

    def pack(self, now: float) -> Iterator[bytes]:
        """Yields the encoded entries for another worker, the newest last.

        Entries made from cluster data are left out.
        """
        for key in (*self._used_once, *self._reused):
            entry = self.entries.get(key)
            if entry is not None and not entry.dependencies:
                yield WireEntry.encode(key, entry, now)

    def unpack(self, portion: bytes, now: float) -> None:
        """Decodes an entry that `pack` encoded, and stores it unless its key has an entry already.

        Raises one of UNDECODABLE (see `svcdns.errors`).
        """
        key, entry = msgspec.msgpack.decode(portion, type=WireEntry).decode(now)
        if key not in self.entries:
            self.put(key, entry)

    def invalidate(self, dependencies: Iterable[Dependency]) -> None:
        """Removes the entries that were made from one of the objects in `dependencies`."""
        if self._dependents:
            for dependency in dependencies:
                for key in self._dependents.pop(dependency, ()):
                    self.remove(key)

    def remove_dependents(self) -> None:
        """Removes the entries whose replies were made from cluster data."""
        self.invalidate(tuple(self._dependents))
