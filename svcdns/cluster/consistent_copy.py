"""A consistent copy of an index: all objects as they are at one moment, for a zone transfer that takes longer than
that.

Copying the octets of a large cluster takes milliseconds, so it goes in steps, and its caller does other work in
between. Rules:

1. A change of the index during a copy starts the copy anew. After TRIES changes it goes on without steps, so that it
   ends.
2. A copy shows the moment at which it ends; later changes do not show in it.
3. Objects are decoded one at a time, when they are read from the copy.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar, overload

from svcdns.cluster.objects import EndpointSlice, ImportedSlice, Service, ServiceImport
from svcdns.cluster.secondary_index import LoweredName, SecondaryIndex, StoredObject

STEP_SIZE: Final = 400
"""Objects copied in one step: less than 0.1 ms."""
TRIES: Final = 3

T = TypeVar("T")

Step = tuple[()]
InSteps = Generator[Step, None, T]
"""Work that yields () after each step, and returns its result."""


def copy_consistently(make: Callable[[], InSteps[T]], changes: Callable[[], int]) -> InSteps[T]:
    """The result of `make()` without a change in the middle of it. `changes()` is a number that differs after each
    change."""
    for tries_left in range(TRIES, -1, -1):
        before, work = changes(), make()
        try:
            while changes() == before:
                next(work)
                if tries_left:
                    yield ()
        except StopIteration as end:
            done: T = end.value
            return done
    raise AssertionError("the index changed within one step")


class LazyList(Sequence[T]):
    """Encoded objects, in no order, each decoded when it is read."""

    def __init__(self, encoded: Sequence[bytes], decode: Callable[[bytes], T]) -> None:
        """`decode` makes an object of its octets."""
        self._encoded, self._decode = encoded, decode

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> list[T]: ...
    def __getitem__(self, at: int | slice) -> T | list[T]:
        """One object, or a list of them."""
        if isinstance(at, slice):
            return [self._decode(data) for data in self._encoded[at]]
        return self._decode(self._encoded[at])

    def __len__(self) -> int:
        """The number of objects."""
        return len(self._encoded)


class LazyGroups(Mapping[LoweredName, tuple[T, ...]]):
    """Encoded objects by namespace and service, each decoded when it is read."""

    def __init__(self, encoded: Mapping[LoweredName, bytes | tuple[bytes, ...]], decode: Callable[[bytes], T]) -> None:
        """`decode` makes an object of its octets."""
        self._encoded, self._decode = encoded, decode

    def __getitem__(self, key: LoweredName) -> tuple[T, ...]:
        """The objects under a key."""
        found = self._encoded[key]
        return tuple(map(self._decode, found)) if isinstance(found, tuple) else (self._decode(found),)

    def __iter__(self) -> Iterator[LoweredName]:
        """The keys, in no order."""
        return iter(self._encoded)

    def __len__(self) -> int:
        """The number of keys."""
        return len(self._encoded)


class ClusterCopy(NamedTuple):
    """All objects that zones are made of; slices are by namespace and service, lowered."""

    services: LazyList[Service]
    imports: LazyList[ServiceImport]
    namespaces: frozenset[str]
    slices: LazyGroups[EndpointSlice]
    imported: LazyGroups[ImportedSlice]


def copy_objects(objects: Iterable[StoredObject]) -> InSteps[list[bytes]]:
    """The octets of the objects."""
    found, out = list(objects), []
    for at in range(0, len(found), STEP_SIZE):
        out += [stored.data for stored in found[at : at + STEP_SIZE]]
        yield ()
    return out


def copy_groups(index: SecondaryIndex[LoweredName]) -> InSteps[dict[LoweredName, bytes | tuple[bytes, ...]]]:
    """The octets of the objects under each key. A single object has no tuple around it: most are single, and the
    garbage collector looks at every tuple."""
    keys = list(index.keys())
    out: dict[LoweredName, bytes | tuple[bytes, ...]] = {}
    for at in range(0, len(keys), STEP_SIZE):
        for key in keys[at : at + STEP_SIZE]:
            octets = tuple([stored.data for stored in index.at(key)])
            out[key] = octets if len(octets) > 1 else octets[0]
        yield ()
    return out
