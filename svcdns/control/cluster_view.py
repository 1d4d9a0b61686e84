"""What control knows of the clusters: every object as encoded bytes, so that a worker that starts can be told everything.

A list from a source is reconciled here: what it did not name is gone, what is as it was is no change. So workers see differences alone,
however often the API server is listed. A snapshot fills what no list has told yet, and the first list is reconciled with it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import NamedTuple

import msgspec

from svcdns.cluster.changes import KINDS, STRUCTS, Begin, Change, Complete, Confirmed, Gone, Kind, Put, Serials
from svcdns.cluster.objects import ClusterObject
from svcdns.control.soa_serials import after


class Key(NamedTuple):
    """An object's place in the store."""

    source: int
    kind: Kind
    namespace: str
    name: str


Difference = Key | Complete | Confirmed | Serials
"""What workers are to be told of a view: an object, the end of a first list, its confirmation, or its serials."""

_Name = tuple[str, str]
"""Namespace and name."""

_decode = {kind: msgspec.msgpack.Decoder(struct).decode for kind, struct in STRUCTS.items()}
_encode = msgspec.msgpack.Encoder().encode


class View:
    """One source's objects."""

    def __init__(self, number: int, kinds: tuple[Kind, ...], now: Callable[[], float]) -> None:
        """`now` is Unix time in seconds, for serials."""
        self.number, self.kinds, self._now = number, kinds, now
        self.completed: set[Kind] = set()
        """Kinds that are known whole, from a list or a snapshot."""
        self.listed: set[Kind] = set()
        """Kinds that the source has listed."""
        self.changes = 0
        """Grows with each object that changes."""
        self.confirmed_at = -inf
        """When the source last confirmed all of it, on CLOCK_MONOTONIC, as far as workers are told."""
        self.serials = Serials()
        self._encoded: dict[Kind, dict[_Name, bytes]] = {kind: {} for kind in Kind}
        self._unnamed: dict[Kind, set[_Name]] = {}

    def take(self, change: Change) -> list[Key | Complete]:
        """Takes a source's change in; what workers have to be told: keys whose objects changed, and first completions."""
        match change:
            case Put():
                return self._put(change.object)
            case Gone():
                return self._remove(change.kind, (change.namespace, change.name))
            case Begin():
                self._unnamed[change.kind] = set(self._encoded[change.kind])
            case Complete():
                return self._complete(change)
            case Serials():
                self.serials = change
        return []

    def restore(self, objects: Mapping[Kind, Mapping[_Name, bytes]], serials: Serials) -> list[Key | Complete]:
        """Takes in what a snapshot has of the kinds that no list is through of; what workers have to be told. What the source has told
        already is newer and stays."""
        out: list[Key | Complete] = []
        for kind in self.kinds:
            if kind in self.completed:
                continue
            there, unnamed = self._encoded[kind], self._unnamed.get(kind)
            new = {name: data for name, data in objects.get(kind, {}).items() if name not in there}
            there |= new
            if unnamed is not None:
                unnamed.update(new)
            out += [Key(self.number, kind, *name) for name in new]
            self.completed.add(kind)
            out.append(Complete(kind))
        pairs = zip(msgspec.structs.astuple(self.serials), msgspec.structs.astuple(serials), strict=True)
        self.serials = Serials(*map(max, pairs))
        return out

    @property
    def is_whole(self) -> bool:
        """Whether every kind is known whole."""
        return self.completed.issuperset(self.kinds)

    @property
    def is_listed(self) -> bool:
        """Whether the source has listed every kind."""
        return self.listed.issuperset(self.kinds)

    def objects(self) -> dict[Kind, dict[_Name, bytes]]:
        """All that is known now, encoded; later changes do not show in it."""
        return {kind: self._encoded[kind].copy() for kind in self.kinds}

    def object(self, key: Key) -> ClusterObject | None:
        """The object under a key."""
        data = self.encoded(key)
        return None if data is None else _decode[key.kind](data)

    def encoded(self, key: Key) -> bytes | None:
        """The msgpack of the object under a key."""
        return self._encoded[key.kind].get((key.namespace, key.name))

    def keys(self, kind: Kind) -> Iterator[Key]:
        """The keys of one kind."""
        return (Key(self.number, kind, *name) for name in self._encoded[kind])

    def _put(self, new: ClusterObject) -> list[Key | Complete]:
        kind = KINDS[type(new)]
        name = sys.intern(new.namespace), new.name
        unnamed = self._unnamed.get(kind)
        if unnamed:
            unnamed.discard(name)
        data = _encode(new)
        before = self._encoded[kind].get(name)
        if before == data:
            return []
        self.serials = after(self.serials, None if before is None else _decode[kind](before), new, int(self._now()))
        self._encoded[kind][name] = data
        self.changes += 1
        return [Key(self.number, kind, *name)]

    def _remove(self, kind: Kind, name: _Name) -> list[Key | Complete]:
        before = self._encoded[kind].pop(name, None)
        if before is None:
            return []
        self.changes += 1
        self.serials = after(self.serials, _decode[kind](before), None, int(self._now()))
        return [Key(self.number, kind, *name)]

    def _complete(self, change: Complete) -> list[Key | Complete]:
        out: list[Key | Complete] = []
        for name in self._unnamed.pop(change.kind, ()):
            out += self._remove(change.kind, name)
        self.listed.add(change.kind)
        if change.kind not in self.completed:
            self.completed.add(change.kind)
            out.append(change)
        return out
