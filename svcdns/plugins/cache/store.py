"""What `cache` keeps: replies with the moment they were stored, in two bounded stores, findable by what they rest on.

Capacity is CoreDNS's: 256 shards of at least four entries, so 1,024 at least. The least recently used entry goes first; CoreDNS takes a
random one, which no client can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec
from cachetools import LRUCache

from svcdns.wire.reply import Owner, Reply

SHARDS: Final = 256
PER_SHARD: Final = 4

Key = tuple[bytes, int, int, bool, bool]
"""Lowered name, type, class, DO bit, CD bit."""


class Item(msgspec.Struct):
    """A stored reply: `stored` on the cache's clock, `lifetime` in whole seconds.

    `answering` says that it answers its question; `good` is an older one that did, kept beside one that does not. The rest changes:
    `hits` without too long a gap up to `seen`, the refresh that is under way, and the time before which none is to be tried again.
    """

    reply: Reply
    stored: float
    lifetime: int
    answering: bool = True
    good: Item | None = None
    hits: int = 0
    seen: float = float("-inf")
    refresh: asyncio.Task[Any] | None = None
    retry: float = float("-inf")

    @property
    def owners(self) -> set[Owner]:
        """All facts that it rests on."""
        return {*self.reply.owners, *(self.good.reply.owners if self.good is not None else ())}

    def remaining(self, now: float) -> int:
        """Whole seconds that are left, as every TTL shows them; 0 or less when it is over."""
        return self.lifetime - int(now - self.stored)


def capacity(asked: int) -> int:
    """Entries that a store of the asked size holds."""
    return max(asked // SHARDS, PER_SHARD) * SHARDS


class Store(LRUCache[Key, Item]):
    """One of the two stores."""

    def __init__(self, size: int, evicted: Callable[[], None]) -> None:
        """`evicted` is called for each entry that had to make room."""
        super().__init__(capacity(size))
        self._evicted = evicted
        self._room = int(self.maxsize)
        self._owned: dict[Owner, set[Key]] = {}

    def popitem(self) -> tuple[Key, Item]:
        """Makes room."""
        self._evicted()
        return super().popitem()

    def put(self, key: Key, item: Item) -> None:
        """Stores an item, and remembers what it rests on."""
        self.pop(key, None)
        if len(self) >= self._room:
            self.popitem()
        for owner in item.owners:
            self._owned.setdefault(owner, set()).add(key)
        self[key] = item

    def shrink(self, share: float) -> Iterator[None]:
        """Keeps to a part of its size from now on. What is over it goes bit by bit, between the steps of the iterator."""
        self._room = max(PER_SHARD, int(self.maxsize * share))
        while len(self) > self._room:
            self.popitem()
            yield

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
        for owner in item.owners if item is not None else ():
            keys = self._owned.get(owner)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._owned[owner]
