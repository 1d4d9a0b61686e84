"""Computes the SOA serials of cluster zones (docs/behaviour/cluster-names.md#soa-serial).

There are three serials: for ordinary, external and multi-cluster zones. A serial is the time, in Unix seconds, of the
last change that affects zones of its type. The control process computes them, so all workers have the same serials.
"""

from __future__ import annotations

import msgspec

from svcdns.cluster.changes import Serials
from svcdns.cluster.objects import ClusterObject, EndpointSlice, ImportedSlice, Namespace, Pod, Service, ServiceImport


def after(serials: Serials, old: ClusterObject | None, new: ClusterObject | None, now: int) -> Serials:
    """Returns the serials after a change of one object at the time `now`, in Unix seconds.

    `old` is None for a new object, and `new` is None for a removed one. If the change affects no serial, the same
    `serials` object is returned.
    """
    moved = _after(serials, old, new, now)
    return serials if moved == serials else moved


def _after(serials: Serials, old: ClusterObject | None, new: ClusterObject | None, now: int) -> Serials:
    if old == new:
        return serials
    if isinstance(old or new, Namespace):
        return serials if old is None or new is None else Serials(now, now, now)
    if old is None or new is None:
        return msgspec.structs.replace(serials, ordinary=now)
    match old, new:
        case Service(), Service():
            if (old.external_name, old.ports) != (new.external_name, new.ports):
                serials = msgspec.structs.replace(serials, ordinary=now)
            if (old.external_ips, old.ports) != (new.external_ips, new.ports):
                serials = msgspec.structs.replace(serials, external=now)
        case Pod(), Pod():
            if old.ip != new.ip:
                serials = msgspec.structs.replace(serials, ordinary=now)
        case EndpointSlice(), EndpointSlice():
            if _answer_fields(old) != _answer_fields(new):
                serials = msgspec.structs.replace(serials, ordinary=now)
        case (ImportedSlice(), ImportedSlice()) | (ServiceImport(), ServiceImport()):
            serials = msgspec.structs.replace(serials, multicluster=now)
    return serials


def _answer_fields(slice_: EndpointSlice) -> object:
    return slice_.ports, [(e.address, e.hostname, e.zone) for e in slice_.endpoints]
