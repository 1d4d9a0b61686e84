"""The stored objects of an index, and secondary indexes, which find objects by other keys than their name.

Each object is stored once, encoded. All indexes refer to the same `StoredObject`, whose octets are replaced when the
object changes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec

LoweredName = tuple[str, str]
"""Namespace and name of an object, both in lower case."""

K = TypeVar("K")


class StoredObject(msgspec.Struct, gc=False):
    """An object of the index. `data` is the object in msgpack. A change of the object replaces `data`."""

    key: LoweredName
    data: bytes


class SecondaryIndex(Generic[K]):
    """Finds stored objects by a key that several objects may have.

    The objects of one key are in the order of namespace and name.
    """

    def __init__(self) -> None:
        self._found: dict[K, StoredObject | list[StoredObject]] = {}
        """The objects of each key: a list, or the object itself if it is the only one, as for most keys."""

    def at(self, key: K) -> Iterable[StoredObject]:
        """Returns the objects with this key."""
        found = self._found.get(key)
        if found is None:
            return ()
        return found if isinstance(found, list) else (found,)

    def add(self, key: K, stored: StoredObject) -> None:
        """Adds an object to the objects of `key`. Call it only if the object is not there yet."""
        found = self._found.setdefault(key, stored)
        if isinstance(found, list):
            if found[-1].key < stored.key:  # the API server lists objects in this order
                found.append(stored)
            else:
                found.insert(bisect_left(found, stored.key, key=_key_of), stored)
        elif found is not stored:
            self._found[key] = sorted((found, stored), key=_key_of)

    def remove(self, key: K, stored: StoredObject) -> None:
        """Removes an object from the objects of `key`. Call it only if the object is there."""
        found = self._found[key]
        if not isinstance(found, list):
            del self._found[key]
            return
        del found[bisect_left(found, stored.key, key=_key_of)]
        if len(found) == 1:
            self._found[key] = found[0]

    def move(self, stored: StoredObject, before: set[K], after: set[K]) -> None:
        """Moves an object from the keys `before` to the keys `after`."""
        for key in before - after:
            self.remove(key, stored)
        for key in after - before:
            self.add(key, stored)

    def keys(self) -> Iterable[K]:
        """Returns every key that has an object."""
        return self._found.keys()


def _key_of(stored: StoredObject) -> LoweredName:
    return stored.key
