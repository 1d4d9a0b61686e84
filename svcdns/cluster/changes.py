"""The changes of a cluster that a source reports: single objects, and the begin and end of full lists.

A source is an async iterator of changes. `Complete(kind)` removes the objects that had no `Put` since `Begin(kind)`. So
no existing name is missing during a new list.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from svcdns.cluster.objects import ClusterObject, EndpointSlice, ImportedSlice, Namespace, Pod, Service, ServiceImport

Dependency = tuple[str, ...]
"""Something that a reply depends on, whether it exists or not: its kind, then its key.

Example: ("service", "default", "web").
"""


class Kind(StrEnum):
    """The kinds of objects that a source can watch. Each value is the msgpack tag of the kind's struct in `objects`."""

    SERVICE = "Service"
    ENDPOINT_SLICE = "EndpointSlice"
    IMPORTED_SLICE = "ImportedSlice"
    NAMESPACE = "Namespace"
    POD = "Pod"
    SERVICE_IMPORT = "ServiceImport"


STRUCTS: Final[Mapping[Kind, type[ClusterObject]]] = {
    Kind.SERVICE: Service,
    Kind.ENDPOINT_SLICE: EndpointSlice,
    Kind.IMPORTED_SLICE: ImportedSlice,
    Kind.NAMESPACE: Namespace,
    Kind.POD: Pod,
    Kind.SERVICE_IMPORT: ServiceImport,
}
"""The struct in `objects` of each kind."""

KINDS: Final[Mapping[type[ClusterObject], Kind]] = {struct: kind for kind, struct in STRUCTS.items()}
"""The kind of each struct in `objects`."""


class Begin(msgspec.Struct, frozen=True, array_like=True, tag="begin"):
    """A full list of `kind` begins. Objects of an earlier list are kept until `Complete`."""

    kind: Kind


class Put(msgspec.Struct, frozen=True, array_like=True, tag="put"):
    """`object` is new or has changed.

    `trigger_time` is the EndpointSlice's annotation endpoints.kubernetes.io/last-change-trigger-time, in Unix seconds.
    The time is 0 if there is no annotation, and for objects of a list.
    """

    object: ClusterObject
    trigger_time: float = 0.0


class EncodedPut(msgspec.Struct, frozen=True, array_like=True, tag="put"):
    """A `Put` whose object is still msgpack. `object` may be a part of the buffer that it was decoded from."""

    object: msgspec.Raw
    trigger_time: float = 0.0


class Gone(msgspec.Struct, frozen=True, array_like=True, tag="gone"):
    """The object with this kind, namespace and name was removed.

    `trigger_time` is the time of the change, as in `Put`.
    """

    kind: Kind
    namespace: str
    name: str
    trigger_time: float = 0.0


class Complete(msgspec.Struct, frozen=True, array_like=True, tag="complete"):
    """The list that `Begin(kind)` has begun is complete. Objects that are not in the list are removed."""

    kind: Kind


class Serials(msgspec.Struct, frozen=True, array_like=True, tag="serials"):
    """The SOA serials of ordinary, multi-cluster and external zones, in Unix seconds.

    Source: docs/behaviour/cluster-names.md#soa-serial.
    """

    ordinary: int = 0
    multicluster: int = 0
    external: int = 0


class Confirmed(msgspec.Struct, frozen=True, array_like=True, tag="confirmed"):
    """All known objects are up to date, as the source confirmed at the time `at`.

    `at` is in seconds on CLOCK_MONOTONIC, which is the same in all processes of a machine.
    """

    at: float


Change = Begin | Put | Gone | Complete | Serials | Confirmed
EncodedChange = Begin | EncodedPut | Gone | Complete | Serials | Confirmed
