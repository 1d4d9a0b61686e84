"""The cluster as answers need it: Services, endpoints, namespaces and Pods, found by name and by address.

One writer applies changes, many readers look up. `apply` returns the owners it touched: the facts, present or absent, that a reply may
rest on; a reply none of whose owners was touched is still right. A list (`Begin` … `Complete`) adds before it removes, so there
is no instant in which a known name is missing. Names are compared lowered; addresses by the API server's own text, as CoreDNS does
(an address spelled oddly has no reverse record).

Objects are kept encoded and decoded when asked for, as a hundred thousand endpoints are ten times larger as Python objects than as bytes.
Each is kept in one place that every way to it shares, so that a change touches the ways alone that are new or gone. Addresses lead to
the places of all addresses that differ in their last two characters at most, which are looked through: an entry for each single address
would take the most memory of all.

Owners: ("namespace", ns), ("service", ns, name), ("endpoints", ns, service), ("address", text), ("external", address), ("pod", ip),
("import", ns, name), ("imported", ns, service), ("serial",), ("sync",).
"""

from __future__ import annotations

import sys
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
from svcdns.cluster.consistent_copy import Contents, Pausing, Row, Table, collect, noted, noted_by_key
from svcdns.cluster.objects import HEADLESS, ClusterObject, EndpointSlice, ImportedSlice, Namespace, Pod, Service, ServiceImport
from svcdns.cluster.secondary_index import Key, Place, Places

SYNC: Dependency = ("sync",)
SERIAL: Dependency = ("serial",)
_NO_ADDRESS: Final = {HEADLESS}

_encode: Final = msgspec.msgpack.Encoder().encode
_decoders: Final[dict[Kind, Callable[[bytes], Any]]] = {kind: msgspec.msgpack.Decoder(struct).decode for kind, struct in STRUCTS.items()}
_object: Final[Callable[[bytes], ClusterObject]] = msgspec.msgpack.Decoder(ClusterObject).decode
_service: Final = msgspec.msgpack.Decoder(Service).decode
_import: Final = msgspec.msgpack.Decoder(ServiceImport).decode
_slice: Final = msgspec.msgpack.Decoder(EndpointSlice).decode
_imported: Final = msgspec.msgpack.Decoder(ImportedSlice).decode
_pod: Final = msgspec.msgpack.Decoder(Pod).decode


class Index:
    """The state of one cluster view. `kinds` are those that its source lists; it is synced once each has been listed."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        """An empty cluster that is not synced, unless there is nothing to wait for."""
        self._awaited = set(kinds)
        self._unnamed: dict[Kind, set[Key]] = {}
        self._kept: dict[Kind, dict[Key, Place]] = {kind: {} for kind in Kind}
        self._slices: dict[Kind, Places[Key]] = {kind: Places() for kind in (Kind.ENDPOINT_SLICE, Kind.IMPORTED_SLICE)}
        self._by_cluster_ip: Places[str] = Places()
        self._by_external_ip: Places[str] = Places()
        self._by_address: Places[str] = Places()
        self._pods_by_ip: Places[str] = Places()
        self.serials = Serials()
        self.confirmed = inf
        """When the cluster last confirmed what is here, on CLOCK_MONOTONIC; infinite where nobody has said."""
        self._changes = 0

    # -- reading

    @property
    def synced(self) -> bool:
        """True once every kind has been listed; it never turns false again."""
        return not self._awaited

    def has_namespace(self, name: str) -> bool:
        """Whether the Namespace object is there."""
        return ("", name) in self._kept[Kind.NAMESPACE]

    def service(self, namespace: str, name: str) -> Service | None:
        """The Service of that namespace and name, both lowered."""
        place = self._kept[Kind.SERVICE].get((namespace, name))
        return None if place is None else _service(place.data)

    def service_import(self, namespace: str, name: str) -> ServiceImport | None:
        """The ServiceImport of that namespace and name, both lowered."""
        place = self._kept[Kind.SERVICE_IMPORT].get((namespace, name))
        return None if place is None else _import(place.data)

    def slices(self, namespace: str, service: str) -> tuple[EndpointSlice, ...]:
        """The slices labelled with that Service, ordered by name."""
        return tuple([_slice(place.data) for place in self._slices[Kind.ENDPOINT_SLICE].at((namespace, service))])

    def imported_slices(self, namespace: str, service: str) -> tuple[ImportedSlice, ...]:
        """The multi-cluster slices labelled with that Service, ordered by name."""
        return tuple([_imported(place.data) for place in self._slices[Kind.IMPORTED_SLICE].at((namespace, service))])

    def services_at(self, address: str) -> tuple[Service, ...]:
        """The Services that have this ClusterIP, ordered by namespace and name."""
        found = map(_service, _mentioning(self._by_cluster_ip, address))
        return tuple([service for service in found if address in service.cluster_ips])

    def services_outside_at(self, address: str) -> tuple[Service, ...]:
        """The Services that have this external address, ordered by namespace and name."""
        return tuple([_service(place.data) for place in self._by_external_ip.at(address)])

    def slices_at(self, address: str) -> tuple[EndpointSlice, ...]:
        """The slices that hold this address, ordered by namespace and name."""
        found = map(_slice, _mentioning(self._by_address, address))
        return tuple([slice_ for slice_ in found if any(endpoint.address == address for endpoint in slice_.endpoints)])

    def pods_at(self, address: str) -> tuple[Pod, ...]:
        """The Pods whose primary address this is."""
        found = map(_pod, _mentioning(self._pods_by_ip, address))
        return tuple([pod for pod in found if pod.ip == address])

    def contents(self) -> Pausing[Contents]:
        """What whole zones are made of, of the moment at which this work ends; later changes do not show in it."""
        return collect(self._contents, lambda: self._changes)

    def _contents(self) -> Pausing[Contents]:
        return Contents(
            Row((yield from noted(self._kept[Kind.SERVICE].values())), _service),
            Row((yield from noted(self._kept[Kind.SERVICE_IMPORT].values())), _import),
            frozenset(name for _, name in self._kept[Kind.NAMESPACE]),
            Table((yield from noted_by_key(self._slices[Kind.ENDPOINT_SLICE])), _slice),
            Table((yield from noted_by_key(self._slices[Kind.IMPORTED_SLICE])), _imported),
        )

    def names(self, kind: Kind) -> Container[Key]:
        """Namespace and name, both lowered, of the objects of that kind that are there at any time; it is live."""
        return self._kept[kind]

    def count(self, kind: Kind) -> int:
        """Objects of that kind."""
        return len(self._kept[kind])

    # -- writing

    def apply(self, change: Change | EncodedChange) -> set[Dependency]:
        """Takes a change in; the owners that it touched."""
        touched: set[Dependency] = set()
        match change:
            case Put():
                self._put(change.object, _encode(change.object), touched)
            case EncodedPut():
                data = bytes(change.object)
                self._put(_object(data), data, touched)
            case Gone():
                self._remove(change.kind, (change.namespace.lower(), change.name.lower()), touched)
            case Begin():
                self._unnamed[change.kind] = set(self._kept[change.kind])
            case Complete():
                self._complete(change.kind, touched)
            case Serials():
                if change != self.serials:
                    self.serials = change
                    touched.add(SERIAL)
            case Confirmed():
                self.confirmed = change.at
        self._changes += bool(touched)
        return touched

    def _complete(self, kind: Kind, touched: set[Dependency]) -> None:
        for key in self._unnamed.pop(kind, ()):
            self._remove(kind, key, touched)
        if kind in self._awaited:
            self._awaited.discard(kind)
            if self.synced:
                touched.add(SYNC)

    def _put(self, new: ClusterObject, data: bytes, touched: set[Dependency]) -> None:
        kind = KINDS[type(new)]
        key = sys.intern(new.namespace.lower()), new.name.lower()
        place = self._kept[kind].get(key)
        unnamed = self._unnamed.get(kind)
        if unnamed:
            unnamed.discard(key)
        if place is None:
            place = self._kept[kind][key] = Place(key, data)
            self._changed(place, None, new, touched)
        elif place.data != data:
            old = _decoders[kind](place.data)
            place.data = data
            self._changed(place, old, new, touched)

    def _remove(self, kind: Kind, key: Key, touched: set[Dependency]) -> None:
        place = self._kept[kind].pop(key, None)
        if place is not None:
            self._changed(place, _decoders[kind](place.data), None, touched)

    def _changed(self, place: Place, old: ClusterObject | None, new: ClusterObject | None, touched: set[Dependency]) -> None:
        match old or new:
            case EndpointSlice():
                self._relabelled(Kind.ENDPOINT_SLICE, "endpoints", place, old, new, touched)
                self._readdressed(place, old, new, touched)  # type: ignore[arg-type]
            case Service():
                touched.add(("service", *place.key))
                self._served_at(place, old, new, touched)  # type: ignore[arg-type]
            case Pod():
                before, after = _pod_ips(old), _pod_ips(new)
                _refile(self._pods_by_ip, place, before, after)
                touched.update([("pod", address) for address in before | after])
            case ImportedSlice():
                self._relabelled(Kind.IMPORTED_SLICE, "imported", place, old, new, touched)
            case ServiceImport():
                touched.add(("import", *place.key))
            case Namespace():
                touched.add(("namespace", place.key[1]))

    def _served_at(self, place: Place, old: Service | None, new: Service | None, touched: set[Dependency]) -> None:
        before, after = set(old.cluster_ips if old is not None else ()), set(new.cluster_ips if new is not None else ())
        _refile(self._by_cluster_ip, place, before - _NO_ADDRESS, after - _NO_ADDRESS)
        touched.update([("address", address) for address in before | after])
        before, after = set(old.external_ips if old is not None else ()), set(new.external_ips if new is not None else ())
        if before or after:
            self._by_external_ip.move(place, before, after)
            touched.update([("external", address) for address in before | after])

    def _relabelled(self, kind: Kind, owner: str, place: Place, old: Any, new: Any, touched: set[Dependency]) -> None:
        """Files a slice under its service instead of where it was."""
        before = (old.namespace.lower(), old.service.lower()) if old is not None else None
        after = (new.namespace.lower(), new.service.lower()) if new is not None else None
        if before is not None:
            touched.add((owner, *before))
        if after == before:
            return
        if before is not None:
            self._slices[kind].remove(before, place)
        if after is not None:
            touched.add((owner, *after))
            service = self._kept[Kind.SERVICE].get(after)
            self._slices[kind].add(after if service is None else service.key, place)  # one key for both takes less

    def _readdressed(self, place: Place, old: EndpointSlice | None, new: EndpointSlice | None, touched: set[Dependency]) -> None:
        before = {endpoint.address for endpoint in old.endpoints} if old is not None else set()
        after = {endpoint.address for endpoint in new.endpoints} if new is not None else set()
        _refile(self._by_address, place, before, after)
        if old is not None and new is not None and old.service == new.service:
            changed = {endpoint.address for endpoint in {*old.endpoints} ^ {*new.endpoints}}
        else:
            changed = before | after
        touched.update([("address", address) for address in changed])


def _pod_ips(pod: Any) -> set[str]:
    return {pod.ip} if pod is not None and pod.ip else set()


def _refile(places: Places[str], place: Place, before: set[str], after: set[str]) -> None:
    """Files an object under the addresses that it has now, together with what has others that differ in two characters at most."""
    if before != after:
        places.move(place, {address[:-2] for address in before}, {address[:-2] for address in after})


def _mentioning(places: Places[str], address: str) -> Iterable[bytes]:
    """Of the objects filed there those that have the address's text somewhere, encoded: what has the address, and little else."""
    text = address.encode()
    return [place.data for place in places.at(address[:-2]) if text in place.data]
