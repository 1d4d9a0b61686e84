"""All objects of one moment, for a reader that takes longer than that; they are decoded when they are looked at, one at a time.

Even to note down what a large cluster holds takes milliseconds, so `collect` pauses: whoever uses it goes on with other work at
each pause. If an index changes at one of them it begins again, and before long does without pauses, so what it gives is always of the
moment at which it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar, overload

from svcdns.cluster.objects import EndpointSlice, ImportedSlice, Service, ServiceImport
from svcdns.cluster.secondary_index import Key, Place, Places

PIECE: Final = 400
"""Places that are noted down between two pauses: less than 0.1 ms."""
TRIES: Final = 3

T = TypeVar("T")

Pause = tuple[()]
Pausing = Generator[Pause, None, T]
"""Work that yields () where it may be left alone for a while, and returns what it made."""


def collect(make: Callable[[], Pausing[T]], changes: Callable[[], int]) -> Pausing[T]:
    """What `make` makes, without a change in the middle of it; `changes` is a number that each change makes another."""
    for patience in range(TRIES, -1, -1):
        before, work = changes(), make()
        try:
            while changes() == before:
                next(work)
                if patience:
                    yield ()
        except StopIteration as end:
            done: T = end.value
            return done
    raise AssertionError("changed without a pause")


class Row(Sequence[T]):
    """Objects, in no order."""

    def __init__(self, encoded: Sequence[bytes], decode: Callable[[bytes], T]) -> None:
        """`decode` gives an object."""
        self._encoded, self._decode = encoded, decode

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
    """Objects by key."""

    def __init__(self, encoded: Mapping[Key, bytes | tuple[bytes, ...]], decode: Callable[[bytes], T]) -> None:
        """`decode` gives an object."""
        self._encoded, self._decode = encoded, decode

    def __getitem__(self, key: Key) -> tuple[T, ...]:
        """The objects under a key."""
        found = self._encoded[key]
        return tuple(map(self._decode, found)) if isinstance(found, tuple) else (self._decode(found),)

    def __iter__(self) -> Iterator[Key]:
        """The keys, in no order."""
        return iter(self._encoded)

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._encoded)


class Contents(NamedTuple):
    """A cluster; slices are by namespace and service, lowered."""

    services: Row[Service]
    imports: Row[ServiceImport]
    namespaces: frozenset[str]
    slices: Table[EndpointSlice]
    imported: Table[ImportedSlice]


def noted(places: Iterable[Place]) -> Pausing[list[bytes]]:
    """What the places hold."""
    found, out = list(places), []
    for at in range(0, len(found), PIECE):
        out += [place.data for place in found[at : at + PIECE]]
        yield ()
    return out


def noted_by_key(places: Places[Key]) -> Pausing[dict[Key, bytes | tuple[bytes, ...]]]:
    """What the places under each key hold; a single one without a tuple around it, as most are, and tuples are work for the collector."""
    keys = list(places.keys())
    out: dict[Key, bytes | tuple[bytes, ...]] = {}
    for at in range(0, len(keys), PIECE):
        for key in keys[at : at + PIECE]:
            held = tuple([place.data for place in places.at(key)])
            out[key] = held if len(held) > 1 else held[0]
        yield ()
    return out
