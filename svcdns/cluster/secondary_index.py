"""Stored objects of an index, and secondary indexes that lead to them.

An object is stored encoded, once; the primary index and all secondary indexes share it. A change of the object replaces
its octets, so that only the secondary indexes whose keys have changed need work. Nothing is decoded here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec

LoweredName = tuple[str, str]
"""Namespace and name of an object, both lowered."""

K = TypeVar("K")


class StoredObject(msgspec.Struct, gc=False):
    """An object of the index; `data` is its msgpack as it is now."""

    key: LoweredName
    data: bytes


class SecondaryIndex(Generic[K]):
    """Stored objects by a key that several may share; those of one key are in the order of namespace and name."""

    def __init__(self) -> None:
        self._found: dict[K, StoredObject | list[StoredObject]] = {}
        """Most keys have one object, which needs no list."""

    def at(self, key: K) -> Iterable[StoredObject]:
        """The objects under a key."""
        found = self._found.get(key)
        if found is None:
            return ()
        return found if isinstance(found, list) else (found,)

    def add(self, key: K, stored: StoredObject) -> None:
        """Adds an object that is not under the key yet."""
        found = self._found.setdefault(key, stored)
        if isinstance(found, list):
            found.insert(bisect_left(found, stored.key, key=_key_of), stored)
        elif found is not stored:
            self._found[key] = sorted((found, stored), key=_key_of)

    def remove(self, key: K, stored: StoredObject) -> None:
        """Removes an object that is under the key."""
        found = self._found[key]
        if not isinstance(found, list):
            del self._found[key]
            return
        del found[bisect_left(found, stored.key, key=_key_of)]
        if len(found) == 1:
            self._found[key] = found[0]

    def move(self, stored: StoredObject, before: set[K], after: set[K]) -> None:
        """Moves an object from its keys `before` a change to those `after` it."""
        for key in before - after:
            self.remove(key, stored)
        for key in after - before:
            self.add(key, stored)

    def keys(self) -> Iterable[K]:
        """Every key that has an object."""
        return self._found.keys()


def _key_of(stored: StoredObject) -> LoweredName:
    return stored.key
