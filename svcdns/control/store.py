"""What control knows of the clusters: every object as encoded bytes, so that a worker that starts can be told everything.

A list from a source is reconciled here: what it did not name is gone, what is as it was is no change. So workers see differences alone,
however often the API server is listed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from svcdns.cluster.changes import Begin, Change, Complete, Gone, Kind, Put, Serials
from svcdns.cluster.objects import ClusterObject, EndpointSlice, ImportedSlice, Namespace, Pod, Service, ServiceImport
from svcdns.cluster.serials import after


class Key(NamedTuple):
    """An object's place in the store."""

    source: int
    kind: Kind
    namespace: str
    name: str


_STRUCTS = {
    Kind.SERVICE: Service,
    Kind.ENDPOINT_SLICE: EndpointSlice,
    Kind.IMPORTED_SLICE: ImportedSlice,
    Kind.NAMESPACE: Namespace,
    Kind.POD: Pod,
    Kind.SERVICE_IMPORT: ServiceImport,
}
_decode = {kind: msgspec.msgpack.Decoder(struct).decode for kind, struct in _STRUCTS.items()}
_encode = msgspec.msgpack.Encoder().encode


class View:
    """One source's objects."""

    def __init__(self, number: int, kinds: tuple[Kind, ...], now: Callable[[], float]) -> None:
        """`now` is Unix time in seconds, for serials."""
        self.number, self.kinds, self._now = number, kinds, now
        self.objects: dict[Key, bytes] = {}
        self.completed: set[Kind] = set()
        self.serials = Serials()
        self._listing: dict[Kind, set[Key]] = {}

    def take(self, change: Change) -> list[Key | Complete]:
        """Takes a source's change in; what workers have to be told: keys whose objects changed, and first completions."""
        match change:
            case Put():
                return self._put(change.object)
            case Gone():
                return self._remove(Key(self.number, change.kind, change.namespace, change.name))
            case Begin():
                self._listing[change.kind] = set()
            case Complete():
                return self._complete(change)
            case Serials():
                self.serials = change
        return []

    def object(self, key: Key) -> ClusterObject | None:
        """The object under a key."""
        data = self.objects.get(key)
        return None if data is None else _decode[key.kind](data)

    def keys(self, kind: Kind) -> Iterator[Key]:
        """The keys of one kind."""
        return (key for key in self.objects if key.kind is kind)

    def _put(self, new: ClusterObject) -> list[Key | Complete]:
        key = Key(self.number, Kind(type(new).__name__), new.namespace, new.name)
        named = self._listing.get(key.kind)
        if named is not None:
            named.add(key)
        data = _encode(new)
        before = self.objects.get(key)
        if before == data:
            return []
        self.serials = after(self.serials, None if before is None else _decode[key.kind](before), new, int(self._now()))
        self.objects[key] = data
        return [key]

    def _remove(self, key: Key) -> list[Key | Complete]:
        before = self.objects.pop(key, None)
        if before is None:
            return []
        self.serials = after(self.serials, _decode[key.kind](before), None, int(self._now()))
        return [key]

    def _complete(self, change: Complete) -> list[Key | Complete]:
        named = self._listing.pop(change.kind, set())
        out: list[Key | Complete] = []
        for key in [key for key in self.keys(change.kind) if key not in named]:
            out += self._remove(key)
        if change.kind not in self.completed:
            self.completed.add(change.kind)
            out.append(change)
        return out
