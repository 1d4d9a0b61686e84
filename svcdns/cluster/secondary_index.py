"""Where an index keeps its objects: encoded, each in one place that every way to it shares.

An object that changes stays in its place, so the ways to it have to be touched only where they are new or gone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec

Key = tuple[str, str]
"""Namespace and name, lowered."""

K = TypeVar("K")


class Place(msgspec.Struct, gc=False):
    """An object's place: `data` is the msgpack of the object as it is now."""

    key: Key
    data: bytes


class Places(Generic[K]):
    """Places under keys that several may share, each key's in the order of namespace and name."""

    def __init__(self) -> None:
        self._found: dict[K, Place | list[Place]] = {}

    def at(self, key: K) -> Iterable[Place]:
        """The places under a key."""
        found = self._found.get(key)
        if found is None:
            return ()
        return found if isinstance(found, list) else (found,)

    def add(self, key: K, place: Place) -> None:
        """Files a place that is not there yet. Most keys have one place, which needs no list."""
        found = self._found.setdefault(key, place)
        if isinstance(found, list):
            found.insert(bisect_left(found, place.key, key=_key_of), place)
        elif found is not place:
            self._found[key] = sorted((found, place), key=_key_of)

    def remove(self, key: K, place: Place) -> None:
        """Takes a place away that is there."""
        found = self._found[key]
        if not isinstance(found, list):
            del self._found[key]
            return
        del found[bisect_left(found, place.key, key=_key_of)]
        if len(found) == 1:
            self._found[key] = found[0]

    def move(self, place: Place, before: set[K], after: set[K]) -> None:
        """Files a place under the keys that it has now, instead of those it had."""
        for key in before - after:
            self.remove(key, place)
        for key in after - before:
            self.add(key, place)

    def keys(self) -> Iterable[K]:
        """Every key that has a place."""
        return self._found.keys()


def _key_of(place: Place) -> Key:
    return place.key
