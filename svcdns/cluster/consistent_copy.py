"""A consistent copy of an index: all objects at one moment, for a zone transfer.

The copy is made in steps, between which the caller does other work. Rules:

1. If the index changes during a copy, the copy begins again. After TRIES changes, the copy is made without pauses.
2. Later changes of the index do not affect the copy.
3. Objects are decoded one at a time, when they are read from the copy.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar, overload

from svcdns.cluster.objects import EndpointSlice, ImportedSlice, Service, ServiceImport
from svcdns.cluster.secondary_index import LoweredName, SecondaryIndex, StoredObject

STEP_SIZE: Final = 400
"""The number of objects copied in one step, which takes less than 0.1 ms."""
TRIES: Final = 3

T = TypeVar("T")

Step = tuple[()]
InSteps = Generator[Step, None, T]
"""Work in steps: a generator that yields () after each step, and returns the result."""


def copy_consistently(make: Callable[[], InSteps[T]], changes: Callable[[], int]) -> InSteps[T]:
    """A generator that runs the steps of `make()` and returns their result.

    If the index changes before the last step, the generator begins again. After TRIES restarts, all steps run without a
    pause. The number that `changes()` returns differs after each change of the index.
    """
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
    """A sequence of encoded objects. An object is decoded when it is read."""

    def __init__(self, encoded: Sequence[bytes], decode: Callable[[bytes], T]) -> None:
        """`encoded` has the octets of each object. `decode` converts such octets to the object."""
        self._encoded, self._decode = encoded, decode

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> list[T]: ...
    def __getitem__(self, at: int | slice) -> T | list[T]:
        """Returns one object, or a list of objects for a slice."""
        if isinstance(at, slice):
            return [self._decode(data) for data in self._encoded[at]]
        return self._decode(self._encoded[at])

    def __len__(self) -> int:
        """Returns the number of objects."""
        return len(self._encoded)


class LazyGroups(Mapping[LoweredName, tuple[T, ...]]):
    """Encoded objects by the namespace and name of their Service. An object is decoded when it is read."""

    def __init__(self, encoded: Mapping[LoweredName, bytes | tuple[bytes, ...]], decode: Callable[[bytes], T]) -> None:
        """`encoded` has the octets of one object, or of several objects, for each key.

        `decode` converts the octets of one object to the object.
        """
        self._encoded, self._decode = encoded, decode

    def __getitem__(self, key: LoweredName) -> tuple[T, ...]:
        """Returns the objects with this key."""
        found = self._encoded[key]
        return tuple(map(self._decode, found)) if isinstance(found, tuple) else (self._decode(found),)

    def __iter__(self) -> Iterator[LoweredName]:
        """Iterates over the keys, in no order."""
        return iter(self._encoded)

    def __len__(self) -> int:
        """Returns the number of keys."""
        return len(self._encoded)


class ClusterCopy(NamedTuple):
    """All objects whose names a zone transfer contains.

    `slices` and `imported` have EndpointSlices by the namespace and name of their Service.
    """

    services: LazyList[Service]
    imports: LazyList[ServiceImport]
    namespaces: frozenset[str]
    slices: LazyGroups[EndpointSlice]
    imported: LazyGroups[ImportedSlice]


def copy_objects(objects: Iterable[StoredObject]) -> InSteps[list[bytes]]:
    """A generator that makes a list with the encoded form of each object, and pauses between steps.

    The list is the generator's return value.
    """
    found, out = list(objects), []
    for at in range(0, len(found), STEP_SIZE):
        out += [stored.data for stored in found[at : at + STEP_SIZE]]
        yield ()
    return out


def copy_groups(index: SecondaryIndex[LoweredName]) -> InSteps[dict[LoweredName, bytes | tuple[bytes, ...]]]:
    """A generator that copies the encoded objects of an index by key, and pauses between steps.

    The return value has octets for a key with one object, and a tuple of octets for a key with several objects.
    """
    keys = list(index.keys())
    out: dict[LoweredName, bytes | tuple[bytes, ...]] = {}
    for at in range(0, len(keys), STEP_SIZE):
        for key in keys[at : at + STEP_SIZE]:
            octets = tuple([stored.data for stored in index.at(key)])
            out[key] = octets if len(octets) > 1 else octets[0]
        yield ()
    return out
