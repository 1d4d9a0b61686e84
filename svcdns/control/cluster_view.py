"""A cluster view: the encoded objects of one source, in the control process.

The control process keeps all objects, so that it can send them to a worker that starts. `ClusterView` compares each new
list of the source with its objects: workers get only the differences. A snapshot supplies the kinds of objects that
have not been listed yet. The module sends nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import NamedTuple

import msgspec

from svcdns.cluster.changes import KINDS, STRUCTS, Begin, Change, Complete, Confirmed, Gone, Kind, Put, Serials
from svcdns.cluster.objects import ClusterObject, ObjectName
from svcdns.control.soa_serials import after


class ViewKey(NamedTuple):
    """The key of an object in a cluster view. `source` is the number of the view."""

    source: int
    kind: Kind
    namespace: str
    name: str


Difference = ViewKey | Complete | Confirmed | Serials
"""A difference in a view, to be sent to workers.

It is the key of an object that has changed, the end of a first list, a confirmation, or new SOA serials.
"""

_decode = {kind: msgspec.msgpack.Decoder(struct).decode for kind, struct in STRUCTS.items()}
_encode = msgspec.msgpack.Encoder().encode


class ClusterView:
    """The encoded objects of one source. `apply` returns the changes that the workers need."""

    def __init__(self, number: int, kinds: tuple[Kind, ...], now: Callable[[], float]) -> None:
        """Makes an empty cluster view. `now` returns Unix seconds, from which SOA serials are made."""
        self.number, self.kinds, self._now = number, kinds, now
        self.completed: set[Kind] = set()
        """Kinds of which every object is known, from a list or from a snapshot."""
        self.listed: set[Kind] = set()
        """Kinds that the source has listed completely."""
        self.changes = 0
        """The number of changes of objects so far."""
        self.confirmed_at = -inf
        """The last confirmation of the whole view that was sent to the workers; seconds on CLOCK_MONOTONIC."""
        self.serials = Serials()
        self._encoded: dict[Kind, dict[ObjectName, bytes]] = {kind: {} for kind in Kind}
        self._unlisted: dict[Kind, set[ObjectName]] = {}
        """For each kind that is being listed: the known objects that the list has not contained so far."""

    def apply(self, change: Change) -> list[Difference]:
        """Applies a change from the source. Returns the differences for the workers, in order.

        If the SOA serials change, they are the last item.
        """
        before = self.serials
        out: list[Difference] = []
        match change:
            case Put():
                self._put(change.object, out)
            case Gone():
                self._remove(change.kind, (change.namespace, change.name), out)
            case Begin():
                self._unlisted[change.kind] = set(self._encoded[change.kind])
            case Complete():
                self._complete(change, out)
            case Serials():
                self.serials = change
        if self.serials is not before:
            out.append(self.serials)
        return out

    def restore(self, objects: Mapping[Kind, Mapping[ObjectName, bytes]], serials: Serials) -> list[Difference]:
        """Adds the objects of a snapshot, and returns the differences for the workers.

        If a list of a kind is complete, the snapshot's objects of this kind are ignored. Objects that the source has
        already sent are kept, because they are newer.
        """
        out: list[Difference] = []
        for kind in self.kinds:
            if kind in self.completed:
                continue
            known, unlisted = self._encoded[kind], self._unlisted.get(kind)
            new = {name: data for name, data in objects.get(kind, {}).items() if name not in known}
            known |= new
            if unlisted is not None:
                unlisted.update(new)
            out += [ViewKey(self.number, kind, *name) for name in new]
            self.completed.add(kind)
            out.append(Complete(kind))
        pairs = zip(msgspec.structs.astuple(self.serials), msgspec.structs.astuple(serials), strict=True)
        newest = Serials(*map(max, pairs))
        if newest != self.serials:
            self.serials = newest
            out.append(newest)
        return out

    @property
    def is_whole(self) -> bool:
        """Returns True if all objects of every kind have been received, from lists or from a snapshot."""
        return self.completed.issuperset(self.kinds)

    @property
    def is_listed(self) -> bool:
        """Returns True if the source has sent a complete list of each kind of object."""
        return self.listed.issuperset(self.kinds)

    def objects(self) -> dict[Kind, dict[ObjectName, bytes]]:
        """Returns a copy of all encoded objects."""
        return {kind: self._encoded[kind].copy() for kind in self.kinds}

    def object(self, key: ViewKey) -> ClusterObject | None:
        """Returns the decoded object with this key, or None."""
        data = self.encoded(key)
        return None if data is None else _decode[key.kind](data)

    def encoded(self, key: ViewKey) -> bytes | None:
        """Returns the msgpack of the object with this key, or None."""
        return self._encoded[key.kind].get((key.namespace, key.name))

    def keys(self, kind: Kind) -> Iterator[ViewKey]:
        """Returns an iterator over the keys of all objects of one kind."""
        return (ViewKey(self.number, kind, *name) for name in self._encoded[kind])

    def _put(self, new: ClusterObject, out: list[Difference]) -> None:
        kind = KINDS[type(new)]
        name = sys.intern(new.namespace), new.name
        unlisted = self._unlisted.get(kind)
        if unlisted:
            unlisted.discard(name)
        data = _encode(new)
        before = self._encoded[kind].get(name)
        if before == data:
            return
        self.serials = after(self.serials, None if before is None else _decode[kind](before), new, int(self._now()))
        self._encoded[kind][name] = data
        self.changes += 1
        out.append(ViewKey(self.number, kind, *name))

    def _remove(self, kind: Kind, name: ObjectName, out: list[Difference]) -> None:
        before = self._encoded[kind].pop(name, None)
        if before is None:
            return
        self.changes += 1
        self.serials = after(self.serials, _decode[kind](before), None, int(self._now()))
        out.append(ViewKey(self.number, kind, *name))

    def _complete(self, change: Complete, out: list[Difference]) -> None:
        for name in self._unlisted.pop(change.kind, ()):
            self._remove(change.kind, name, out)
        self.listed.add(change.kind)
        if change.kind not in self.completed:
            self.completed.add(change.kind)
            out.append(change)
