"""Where an index keeps its objects: encoded, each in one place that every way to it shares.

An object that changes stays in its place, so the ways to it have to be touched only where they are new or gone. What is read of a moment is
decoded when it is looked at, one object at a time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar, overload

import msgspec

Key = tuple[str, str]
"""Namespace and name, lowered."""

K = TypeVar("K")
T = TypeVar("T")


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

    def encoded(self) -> dict[K, tuple[bytes, ...]]:
        """What is kept under each key now."""
        return {
            key: tuple([place.data for place in found]) if isinstance(found, list) else (found.data,) for key, found in self._found.items()
        }


class Row(Sequence[T]):
    """Objects of a moment, in no order."""

    def __init__(self, places: Iterable[Place], decode: Callable[[bytes], T]) -> None:
        """Takes what is in the places now."""
        self._encoded, self._decode = [place.data for place in places], decode

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> list[T]: ...
    def __getitem__(self, at: int | slice) -> T | list[T]:
        """One object, or a part of them."""
        if isinstance(at, slice):
            return [self._decode(data) for data in self._encoded[at]]
        return self._decode(self._encoded[at])

    def __len__(self) -> int:
        """How many there are."""
        return len(self._encoded)


class Table(Mapping[Key, tuple[T, ...]]):
    """Objects of a moment by key."""

    def __init__(self, places: Places[Key], decode: Callable[[bytes], T]) -> None:
        """Takes what is in the places now."""
        self._encoded, self._decode = places.encoded(), decode

    def __getitem__(self, key: Key) -> tuple[T, ...]:
        """The objects under a key."""
        return tuple(map(self._decode, self._encoded[key]))

    def __iter__(self) -> Iterator[Key]:
        """The keys, in no order."""
        return iter(self._encoded)

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._encoded)


def _key_of(place: Place) -> Key:
    return place.key
