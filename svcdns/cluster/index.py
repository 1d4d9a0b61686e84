"""The index of a cluster view in a worker: finds Services, endpoints, namespaces and Pods by name and by address.

Rules:

1. `apply` returns the dependencies that a change affects. Replies without these dependencies stay correct.
2. A list adds objects before it removes others, so that no existing name is missing.
3. Names are compared in lower case. Addresses are compared in the API server's spelling, as in CoreDNS.
4. Objects are stored encoded, once, and decoded when they are read. All indexes share them (`secondary_index`).
5. A key of the index by address is an address without its last two characters. This saves memory.

Dependencies: ("namespace", ns), ("service", ns, name), ("endpoints", ns, service), ("address", text), ("external",
address), ("pod", ip), ("import", ns, name), ("imported", ns, service), ("serial",), ("sync",).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Container, Iterable
from math import inf
from typing import Any, Final

import msgspec

from svcdns.cluster.changes import (
    KINDS,
    STRUCTS,
    Begin,
    Change,
    Complete,
    Confirmed,
    Dependency,
    EncodedChange,
    EncodedPut,
    Gone,
    Kind,
    Put,
    Serials,
)
from svcdns.cluster.consistent_copy import (
    ClusterCopy,
    InSteps,
    LazyGroups,
    LazyList,
    copy_consistently,
    copy_groups,
    copy_objects,
)
from svcdns.cluster.objects import (
    HEADLESS,
    ClusterObject,
    EndpointSlice,
    ImportedSlice,
    Namespace,
    Pod,
    Service,
    ServiceImport,
)
from svcdns.cluster.secondary_index import LoweredName, SecondaryIndex, StoredObject
from svcdns.wire import names

SYNC: Dependency = ("sync",)
SERIAL: Dependency = ("serial",)
_NO_ADDRESS: Final = {HEADLESS}
_NAMED: Final = (Kind.SERVICE, Kind.NAMESPACE)

_encode: Final = msgspec.msgpack.Encoder().encode
_decoders: Final[dict[Kind, Callable[[bytes], Any]]] = {
    kind: msgspec.msgpack.Decoder(struct).decode for kind, struct in STRUCTS.items()
}
_object: Final[Callable[[bytes], ClusterObject]] = msgspec.msgpack.Decoder(ClusterObject).decode
_service: Final = msgspec.msgpack.Decoder(Service).decode
_import: Final = msgspec.msgpack.Decoder(ServiceImport).decode
_slice: Final = msgspec.msgpack.Decoder(EndpointSlice).decode
_imported: Final = msgspec.msgpack.Decoder(ImportedSlice).decode
_pod: Final = msgspec.msgpack.Decoder(Pod).decode
_namespace: Final = msgspec.msgpack.Decoder(Namespace).decode


class Index:
    """The objects of one cluster view, with indexes by name and by address."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        """Makes an empty index. `kinds` are the kinds of objects that the source reports."""
        self._unsynced = set(kinds)
        self._unlisted: dict[Kind, set[LoweredName]] = {}
        """For each kind that is being listed: the known objects that the list has not contained so far."""
        self._objects: dict[Kind, dict[LoweredName, StoredObject]] = {kind: {} for kind in Kind}
        self._services, self._namespaces = self._objects[Kind.SERVICE], self._objects[Kind.NAMESPACE]
        self._slices: dict[Kind, SecondaryIndex[LoweredName]] = {
            kind: SecondaryIndex() for kind in (Kind.ENDPOINT_SLICE, Kind.IMPORTED_SLICE)
        }
        self._endpoint_slices = self._slices[Kind.ENDPOINT_SLICE]
        self.has_odd_names = False
        """True once a namespace or Service was added whose name is escaped in the presentation form of domain names."""
        self._by_cluster_ip: SecondaryIndex[str] = SecondaryIndex()
        self._by_external_ip: SecondaryIndex[str] = SecondaryIndex()
        self._by_address: SecondaryIndex[str] = SecondaryIndex()
        self._pods_by_ip: SecondaryIndex[str] = SecondaryIndex()
        self.serials = Serials()
        self.confirmed = inf
        """When the source last confirmed the view, in seconds on CLOCK_MONOTONIC; infinite if that is unknown."""
        self._changes = 0

    # -- reading

    @property
    def synced(self) -> bool:
        """Returns True after every kind of object has been listed once."""
        return not self._unsynced

    def has_namespace(self, name: str) -> bool:
        """Returns True if there is a Namespace object with this name."""
        return ("", name) in self._namespaces

    def service(self, namespace: str, name: str) -> Service | None:
        """Returns the Service with this name, or None. `namespace` and `name` are in lower case."""
        stored = self._services.get((namespace, name))
        return None if stored is None else _service(stored.data)

    def has_service(self, namespace: str, name: str) -> bool:
        """Returns True if there is a Service with this name. `namespace` and `name` are in lower case."""
        return (namespace, name) in self._services

    def service_import(self, namespace: str, name: str) -> ServiceImport | None:
        """Returns the ServiceImport with this name, or None. `namespace` and `name` are in lower case."""
        stored = self._objects[Kind.SERVICE_IMPORT].get((namespace, name))
        return None if stored is None else _import(stored.data)

    def slices(self, namespace: str, service: str) -> tuple[EndpointSlice, ...]:
        """Returns the EndpointSlices whose label names this Service, ordered by name."""
        return tuple([_slice(stored.data) for stored in self._endpoint_slices.at((namespace, service))])

    def small_slices(self, namespace: str, service: str, limit: int) -> tuple[EndpointSlice, ...] | None:
        """Returns the same as `slices`, or None if the encoded slices have more than `limit` octets."""
        found = self._endpoint_slices.at((namespace, service))
        if sum([len(stored.data) for stored in found]) > limit:
            return None
        return tuple([_slice(stored.data) for stored in found])

    def imported_slices(self, namespace: str, service: str) -> tuple[ImportedSlice, ...]:
        """Returns the multi-cluster slices whose label names this Service, ordered by name."""
        return tuple([_imported(stored.data) for stored in self._slices[Kind.IMPORTED_SLICE].at((namespace, service))])

    def services_at(self, address: str) -> tuple[Service, ...]:
        """Returns the Services that have this ClusterIP, ordered by namespace and name."""
        found = map(_service, _with_text(self._by_cluster_ip, address))
        return tuple([service for service in found if address in service.cluster_ips])

    def services_at_external(self, address: str) -> tuple[Service, ...]:
        """Returns the Services that have this external address, ordered by namespace and name."""
        return tuple([_service(stored.data) for stored in self._by_external_ip.at(address)])

    def slices_at(self, address: str) -> tuple[EndpointSlice, ...]:
        """Returns the EndpointSlices with an endpoint at this address, ordered by namespace and name."""
        found = map(_slice, _with_text(self._by_address, address))
        return tuple([slice_ for slice_ in found if any(endpoint.address == address for endpoint in slice_.endpoints)])

    def pods_at(self, address: str) -> tuple[Pod, ...]:
        """Returns the Pods whose primary address is `address`."""
        found = map(_pod, _with_text(self._pods_by_ip, address))
        return tuple([pod for pod in found if pod.ip == address])

    def pods_with(self, address: str) -> tuple[Pod, ...]:
        """Returns the Pods that have `address` as one of their addresses."""
        found = map(_pod, _with_text(self._pods_by_ip, address))
        return tuple([pod for pod in found if pod.ip == address or address in pod.more_ips])

    def pod(self, namespace: str, name: str) -> Pod | None:
        """Returns the Pod with this name, or None. `namespace` and `name` are in lower case."""
        stored = self._objects[Kind.POD].get((namespace, name))
        return None if stored is None else _pod(stored.data)

    def namespace_labels(self, name: str) -> dict[str, str]:
        """Returns the labels of the Namespace `name` (lower case), or no labels if there is no such Namespace."""
        stored = self._objects[Kind.NAMESPACE].get(("", name))
        return {} if stored is None else dict(_namespace(stored.data).labels)

    def copy(self) -> InSteps[ClusterCopy]:
        """A generator that copies all objects whose names a zone transfer contains, and pauses between steps.

        The return value is the copy, which has the state of the index at the end of the generator.
        """
        return copy_consistently(self._copy, lambda: self._changes)

    def _copy(self) -> InSteps[ClusterCopy]:
        return ClusterCopy(
            LazyList((yield from copy_objects(self._objects[Kind.SERVICE].values())), _service),
            LazyList((yield from copy_objects(self._objects[Kind.SERVICE_IMPORT].values())), _import),
            frozenset(name for _, name in self._objects[Kind.NAMESPACE]),
            LazyGroups((yield from copy_groups(self._slices[Kind.ENDPOINT_SLICE])), _slice),
            LazyGroups((yield from copy_groups(self._slices[Kind.IMPORTED_SLICE])), _imported),
        )

    def names(self, kind: Kind) -> Container[LoweredName]:
        """Returns the namespaces and names of all objects of a kind, in lower case.

        The result is a live view, not a copy.
        """
        return self._objects[kind]

    def count(self, kind: Kind) -> int:
        """Returns the number of objects of a kind."""
        return len(self._objects[kind])

    # -- writing

    def apply(self, change: Change | EncodedChange) -> set[Dependency]:
        """Applies a change. Returns the dependencies (objects that replies are made from) that the change affects."""
        affected: set[Dependency] = set()
        match change:
            case EncodedPut():
                data = bytes(change.object)
                self._put(_object(data), data, affected)
            case Put():
                self._put(change.object, _encode(change.object), affected)
            case Gone():
                self._remove(change.kind, (change.namespace.lower(), change.name.lower()), affected)
            case Begin():
                self._unlisted[change.kind] = set(self._objects[change.kind])
            case Complete():
                self._complete(change.kind, affected)
            case Serials():
                if change != self.serials:
                    self.serials = change
                    affected.add(SERIAL)
            case Confirmed():
                self.confirmed = change.at
        self._changes += bool(affected)
        return affected

    def _complete(self, kind: Kind, affected: set[Dependency]) -> None:
        for key in self._unlisted.pop(kind, ()):
            self._remove(kind, key, affected)
        if kind in self._unsynced:
            self._unsynced.discard(kind)
            if self.synced:
                affected.add(SYNC)

    def _put(self, new: ClusterObject, data: bytes, affected: set[Dependency]) -> None:
        kind = KINDS[type(new)]
        key = sys.intern(new.namespace.lower()), new.name.lower()
        stored = self._objects[kind].get(key)
        unlisted = self._unlisted.get(kind)
        if unlisted:
            unlisted.discard(key)
        if stored is None:
            stored = self._objects[kind][key] = StoredObject(key, data)
            if kind in _NAMED and not names.is_plain(key[1].encode()):
                self.has_odd_names = True
            if isinstance(new, Service):
                self._add_service(stored, new, affected)
            elif isinstance(new, EndpointSlice):
                self._add_slice(stored, new, affected)
            else:
                self._update_indexes(stored, None, new, affected)
        elif stored.data != data:
            old = _decoders[kind](stored.data)
            stored.data = data
            self._update_indexes(stored, old, new, affected)

    def _remove(self, kind: Kind, key: LoweredName, affected: set[Dependency]) -> None:
        stored = self._objects[kind].pop(key, None)
        if stored is not None:
            self._update_indexes(stored, _decoders[kind](stored.data), None, affected)

    def _add_service(self, stored: StoredObject, new: Service, affected: set[Dependency]) -> None:
        """Has the same effect as `_update_indexes` for a new Service, but is faster."""
        affected.add(("service", *stored.key))
        if new.external_ips:
            self._update_service_addresses(stored, None, new, affected)
            return
        addresses = new.cluster_ips
        affected.update([("address", address) for address in addresses])
        if len(addresses) > 1:
            _reindex(self._by_cluster_ip, stored, set(), {*addresses} - _NO_ADDRESS)
        elif addresses and addresses[0] not in _NO_ADDRESS:
            self._by_cluster_ip.add(addresses[0][:-2], stored)

    def _add_slice(self, stored: StoredObject, new: EndpointSlice, affected: set[Dependency]) -> None:
        """Has the same effect as `_update_indexes` for a new EndpointSlice, but is faster."""
        at = (stored.key[0], new.service.lower())
        affected.add(("endpoints", *at))
        service = self._objects[Kind.SERVICE].get(at)
        self._slices[Kind.ENDPOINT_SLICE].add(at if service is None else service.key, stored)
        addresses = [endpoint.address for endpoint in new.endpoints]
        affected.update([("address", address) for address in addresses])
        for key in {address[:-2] for address in addresses}:
            self._by_address.add(key, stored)

    def _update_indexes(
        self, stored: StoredObject, old: ClusterObject | None, new: ClusterObject | None, affected: set[Dependency]
    ) -> None:
        match old or new:
            case EndpointSlice():
                self._update_service_index(Kind.ENDPOINT_SLICE, "endpoints", stored, old, new, affected)
                self._update_endpoint_addresses(stored, old, new, affected)  # type: ignore[arg-type]
            case Service():
                affected.add(("service", *stored.key))
                self._update_service_addresses(stored, old, new, affected)  # type: ignore[arg-type]
            case Pod():
                before, after = _pod_ips(old), _pod_ips(new)
                _reindex(self._pods_by_ip, stored, before, after)
                affected.update([("pod", address) for address in before | after])
            case ImportedSlice():
                self._update_service_index(Kind.IMPORTED_SLICE, "imported", stored, old, new, affected)
            case ServiceImport():
                affected.add(("import", *stored.key))
            case Namespace():
                affected.add(("namespace", stored.key[1]))

    def _update_service_addresses(
        self, stored: StoredObject, old: Service | None, new: Service | None, affected: set[Dependency]
    ) -> None:
        before, after = set(old.cluster_ips if old is not None else ()), set(new.cluster_ips if new is not None else ())
        _reindex(self._by_cluster_ip, stored, before - _NO_ADDRESS, after - _NO_ADDRESS)
        affected.update([("address", address) for address in before | after])
        before, after = (
            set(old.external_ips if old is not None else ()),
            set(new.external_ips if new is not None else ()),
        )
        if before or after:
            self._by_external_ip.move(stored, before, after)
            affected.update([("external", address) for address in before | after])

    def _update_service_index(
        self, kind: Kind, dependency: str, stored: StoredObject, old: Any, new: Any, affected: set[Dependency]
    ) -> None:
        """Updates the index of EndpointSlices by Service, if a slice's label now names another Service.

        `old` and `new` are the slice before and after the change. The dependencies of both Services are added to
        `affected`.
        """
        before = (old.namespace.lower(), old.service.lower()) if old is not None else None
        after = (new.namespace.lower(), new.service.lower()) if new is not None else None
        if before is not None:
            affected.add((dependency, *before))
        if after == before:
            return
        if before is not None:
            self._slices[kind].remove(before, stored)
        if after is not None:
            affected.add((dependency, *after))
            service = self._objects[Kind.SERVICE].get(after)
            self._slices[kind].add(
                after if service is None else service.key, stored
            )  # both indexes use the Service's own tuple, which saves memory

    def _update_endpoint_addresses(
        self, stored: StoredObject, old: EndpointSlice | None, new: EndpointSlice | None, affected: set[Dependency]
    ) -> None:
        before = {endpoint.address for endpoint in old.endpoints} if old is not None else set()
        after = {endpoint.address for endpoint in new.endpoints} if new is not None else set()
        _reindex(self._by_address, stored, before, after)
        if old is not None and new is not None and old.service == new.service:
            changed = {endpoint.address for endpoint in {*old.endpoints} ^ {*new.endpoints}}
            if len(after) < len(new.endpoints):  # the order of endpoints with the same address may have changed
                counts = Counter(endpoint.address for endpoint in new.endpoints)
                changed.update([address for address, count in counts.items() if count > 1])
        else:
            changed = before | after
        affected.update([("address", address) for address in changed])


def _pod_ips(pod: Any) -> set[str]:
    return {address for address in (pod.ip, *pod.more_ips) if address} if pod is not None else set()


def _reindex(index: SecondaryIndex[str], stored: StoredObject, before: set[str], after: set[str]) -> None:
    """Updates an index by address after a change of an object.

    `before` and `after` are the object's addresses before and after the change.
    """
    if before != after:
        index.move(stored, {address[:-2] for address in before}, {address[:-2] for address in after})


def _with_text(index: SecondaryIndex[str], address: str) -> Iterable[bytes]:
    """Returns the encoded objects that contain the text `address` in any field.

    The caller must decode each object, and compare the address itself.
    """
    text = address.encode()
    return [stored.data for stored in index.at(address[:-2]) if text in stored.data]
