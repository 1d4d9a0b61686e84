"""The cluster as answers need it: Services, endpoints, namespaces and Pods, found by name and by address.

One writer applies changes, many readers look up. `apply` returns the owners it touched: the facts, present or absent, that a reply may
rest on; a reply none of whose owners was touched is still right. A list (`Begin` … `Complete`) adds before it removes, so there
is no instant in which a known name is missing. Names are compared lowered; addresses by the API server's own text, as CoreDNS does
(an address spelled oddly has no reverse record).

Owners: ("namespace", ns), ("service", ns, name), ("endpoints", ns, service), ("address", text), ("external", address), ("pod", ip),
("import", ns, name), ("imported", ns, service), ("serial",), ("sync",).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from svcdns.cluster.changes import Begin, Change, Complete, Gone, Kind, Put, Serials
from svcdns.cluster.objects import ClusterObject, EndpointSlice, ImportedSlice, Namespace, Pod, Service, ServiceImport
from svcdns.wire.reply import Owner

Key = tuple[str, str]
"""Namespace and name, lowered."""

_Slice = TypeVar("_Slice", EndpointSlice, ImportedSlice)

SYNC: Owner = ("sync",)
SERIAL: Owner = ("serial",)


class Contents(NamedTuple):
    """The objects of a moment, for a reader that takes longer than that; slices by namespace and service, lowered."""

    services: tuple[Service, ...]
    imports: tuple[ServiceImport, ...]
    namespaces: frozenset[str]
    slices: Mapping[Key, tuple[EndpointSlice, ...]]
    imported: Mapping[Key, tuple[ImportedSlice, ...]]


class Index:
    """The state of one cluster view. `kinds` are those that its source lists; it is synced once each has been listed."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        """An empty cluster that is not synced, unless there is nothing to wait for."""
        self._awaited = set(kinds)
        self._listing: dict[Kind, set[Key]] = {}
        self._objects: dict[Kind, dict[Key, ClusterObject]] = {kind: {} for kind in Kind}
        self._slices: dict[Key, tuple[EndpointSlice, ...]] = {}
        self._imported: dict[Key, tuple[ImportedSlice, ...]] = {}
        self._by_cluster_ip: dict[str, tuple[Service, ...]] = {}
        self._by_external_ip: dict[str, tuple[Service, ...]] = {}
        self._by_address: dict[str, tuple[EndpointSlice, ...]] = {}
        self._pods_by_ip: dict[str, tuple[Pod, ...]] = {}
        self.serials = Serials()

    # -- reading

    @property
    def synced(self) -> bool:
        """True once every kind has been listed; it never turns false again."""
        return not self._awaited

    def has_namespace(self, name: str) -> bool:
        """Whether the Namespace object is there."""
        return ("", name) in self._objects[Kind.NAMESPACE]

    def service(self, namespace: str, name: str) -> Service | None:
        """The Service of that namespace and name, both lowered."""
        return self._objects[Kind.SERVICE].get((namespace, name))  # type: ignore[return-value]

    def service_import(self, namespace: str, name: str) -> ServiceImport | None:
        """The ServiceImport of that namespace and name, both lowered."""
        return self._objects[Kind.SERVICE_IMPORT].get((namespace, name))  # type: ignore[return-value]

    def slices(self, namespace: str, service: str) -> tuple[EndpointSlice, ...]:
        """The slices labelled with that Service, ordered by name."""
        return self._slices.get((namespace, service), ())

    def imported_slices(self, namespace: str, service: str) -> tuple[ImportedSlice, ...]:
        """The multi-cluster slices labelled with that Service, ordered by name."""
        return self._imported.get((namespace, service), ())

    def services_at(self, address: str) -> tuple[Service, ...]:
        """The Services that have this ClusterIP, ordered by namespace and name."""
        return self._by_cluster_ip.get(address, ())

    def services_outside_at(self, address: str) -> tuple[Service, ...]:
        """The Services that have this external address, ordered by namespace and name."""
        return self._by_external_ip.get(address, ())

    def slices_at(self, address: str) -> tuple[EndpointSlice, ...]:
        """The slices that hold this address, ordered by namespace and name."""
        return self._by_address.get(address, ())

    def pods_at(self, address: str) -> tuple[Pod, ...]:
        """The Pods whose primary address this is."""
        return self._pods_by_ip.get(address, ())

    def contents(self) -> Contents:
        """What whole zones are made of, as it is now; later changes do not show in it. Takes some 0.2 ms for 10,000 Services."""
        objects = self._objects
        return Contents(
            tuple(objects[Kind.SERVICE].values()),  # type: ignore[arg-type]
            tuple(objects[Kind.SERVICE_IMPORT].values()),  # type: ignore[arg-type]
            frozenset(name for _, name in objects[Kind.NAMESPACE]),
            self._slices.copy(),
            self._imported.copy(),
        )

    def services(self) -> Iterable[Service]:
        """All Services, in no order."""
        return self._objects[Kind.SERVICE].values()  # type: ignore[return-value]

    def count(self, kind: Kind) -> int:
        """Objects of that kind."""
        return len(self._objects[kind])

    # -- writing

    def apply(self, change: Change) -> set[Owner]:
        """Takes a change in; the owners that it touched."""
        touched: set[Owner] = set()
        match change:
            case Put():
                self._put(change.object, touched)
            case Gone():
                self._remove(change.kind, (change.namespace.lower(), change.name.lower()), touched)
            case Begin():
                self._listing[change.kind] = set()
            case Complete():
                self._complete(change.kind, touched)
            case Serials():
                if change != self.serials:
                    self.serials = change
                    touched.add(SERIAL)
        return touched

    def _complete(self, kind: Kind, touched: set[Owner]) -> None:
        named = self._listing.pop(kind, None)
        if named is not None:
            for key in [key for key in self._objects[kind] if key not in named]:
                self._remove(kind, key, touched)
        if kind in self._awaited:
            self._awaited.discard(kind)
            if self.synced:
                touched.add(SYNC)

    def _put(self, new: ClusterObject, touched: set[Owner]) -> None:
        kind = Kind(type(new).__name__)
        key = (new.namespace.lower(), new.name.lower())
        named = self._listing.get(kind)
        if named is not None:
            named.add(key)
        objects = self._objects[kind]
        old = objects.get(key)
        if old == new:
            return
        objects[key] = new
        self._changed(key, old, new, touched)

    def _remove(self, kind: Kind, key: Key, touched: set[Owner]) -> None:
        old = self._objects[kind].pop(key, None)
        if old is not None:
            self._changed(key, old, None, touched)

    def _changed(self, key: Key, old: ClusterObject | None, new: ClusterObject | None, touched: set[Owner]) -> None:
        match old or new:
            case Namespace():
                touched.add(("namespace", key[1]))
            case Service():
                self._service_changed(key, old, new, touched)  # type: ignore[arg-type]
            case EndpointSlice():
                self._slice_changed(old, new, touched)  # type: ignore[arg-type]
            case ImportedSlice():
                self._imported_changed(old, new, touched)  # type: ignore[arg-type]
            case ServiceImport():
                touched.add(("import", *key))
            case Pod():
                self._pod_changed(old, new, touched)  # type: ignore[arg-type]

    def _imported_changed(self, old: ImportedSlice | None, new: ImportedSlice | None, touched: set[Owner]) -> None:
        for slice_ in _moved(self._imported, old, new):
            touched.add(("imported", slice_.namespace.lower(), slice_.service.lower()))

    def _service_changed(self, key: Key, old: Service | None, new: Service | None, touched: set[Owner]) -> None:
        touched.add(("service", *key))
        before, after = old.cluster_ips if old else (), new.cluster_ips if new else ()
        for address in {*before, *after}:
            _replace(self._by_cluster_ip, address, old, new if address in after else None, _by_name)
            touched.add(("address", address))
        before, after = old.external_ips if old else (), new.external_ips if new else ()
        for address in {*before, *after}:
            _replace(self._by_external_ip, address, old, new if address in after else None, _by_name)
            touched.add(("external", address))

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None, touched: set[Owner]) -> None:
        for slice_ in _moved(self._slices, old, new):
            touched.add(("endpoints", slice_.namespace.lower(), slice_.service.lower()))
        before = {e.address for e in old.endpoints} if old else set()
        after = {e.address for e in new.endpoints} if new else set()
        for address in before | after:
            _replace(self._by_address, address, old, new if address in after else None, _by_name)
        same_service = old is not None and new is not None and old.service == new.service
        changed = {*(old.endpoints if old else ())} ^ {*(new.endpoints if new else ())} if same_service else ()
        for address in {e.address for e in changed} if same_service else before | after:
            touched.add(("address", address))

    def _pod_changed(self, old: Pod | None, new: Pod | None, touched: set[Owner]) -> None:
        for address in {old.ip if old else "", new.ip if new else ""} - {""}:
            _replace(self._pods_by_ip, address, old, new if new and new.ip == address else None, _by_name)
            touched.add(("pod", address))


def _by_name(item: Service | EndpointSlice | ImportedSlice | Pod) -> tuple[str, str]:
    return item.namespace, item.name


_T = TypeVar("_T", Service, EndpointSlice, ImportedSlice, Pod)


def _replace(index: dict[str, tuple[_T, ...]], at: str, old: _T | None, new: _T | None, order: Callable[[_T], tuple[str, str]]) -> None:
    """Puts `new` in place of `old` under one key, either may be missing, and keeps the order."""
    left: list[_T] = [item for item in index.get(at, ()) if item is not old]
    if new is not None:
        left.append(new)
        left.sort(key=order)
    if left:
        index[at] = tuple(left)
    else:
        index.pop(at, None)


def _moved(index: dict[Key, tuple[_Slice, ...]], old: _Slice | None, new: _Slice | None) -> list[_Slice]:
    """Files a slice under its service instead of where it was; the slices whose services are touched."""
    touched = [slice_ for slice_ in (old, new) if slice_ is not None]
    for slice_ in touched:
        key = (slice_.namespace.lower(), slice_.service.lower())
        left: list[_Slice] = [s for s in index.get(key, ()) if s is not old and s is not new]
        if slice_ is new:
            left.append(slice_)
            left.sort(key=_by_name)
        if left:
            index[key] = tuple(left)
        else:
            index.pop(key, None)
    return touched
