"""Decodes the JSON of the API server, and converts its objects to those of `cluster.objects`.

List pages, watch events and Status replies are decoded, and only their needed fields. No I/O. Rules:

1. Endpoints whose condition `ready` is false are left out. A Pod that is being deleted is ignored.
2. An object without ports gets placeholder ports.
3. A field with the value null is treated as missing, as in Go clients.

Source: core/v1, discovery.k8s.io/v1, multicluster.x-k8s.io/v1alpha1; Kubernetes API concepts, "Efficient detection of
changes".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from svcdns.cluster.objects import (
    NO_PORT,
    PLACEHOLDER_PORTS,
    ClusterObject,
    Endpoint,
    EndpointSlice,
    ImportedSlice,
    Namespace,
    Pod,
    Port,
    Service,
    ServiceImport,
)
from svcdns.cluster.watch_options import ALL_LABELS

SERVICE_LABEL = "kubernetes.io/service-name"
IMPORTED_SERVICE_LABEL = "multicluster.kubernetes.io/service-name"
SOURCE_CLUSTER_LABEL = "multicluster.kubernetes.io/source-cluster"
TRIGGER_TIME_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"

T = TypeVar("T")


# ruff: noqa: N815  the attributes below are the API's own field names


class Metadata(msgspec.Struct):
    """The fields of meta/v1 ObjectMeta that are used."""

    name: str = ""
    namespace: str = ""
    resourceVersion: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletionTimestamp: str | None = None


class ListMetadata(msgspec.Struct, rename={"token": "continue"}):
    """The metadata of a list: its resource version, and the continue token for the next page."""

    resourceVersion: str = ""
    token: str | None = None


class ApiPort(msgspec.Struct, gc=False):
    """The fields of a port of a Service, EndpointSlice or ServiceImport that are used."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class Ingress(msgspec.Struct, gc=False):
    """One entry of status.loadBalancer.ingress."""

    ip: str | None = None
    hostname: str | None = None


class LoadBalancer(msgspec.Struct):
    """The fields of core/v1 LoadBalancerStatus that are used."""

    ingress: list[Ingress] | None = None


class ServiceSpec(msgspec.Struct):
    """The fields of core/v1 ServiceSpec that are used."""

    type: str | None = None
    clusterIP: str | None = None
    clusterIPs: list[str] | None = None
    externalName: str | None = None
    externalIPs: list[str] | None = None
    ports: list[ApiPort] | None = None


class ServiceStatus(msgspec.Struct):
    """The fields of core/v1 ServiceStatus that are used."""

    loadBalancer: LoadBalancer | None = None


class ApiService(msgspec.Struct):
    """The fields of core/v1 Service that are used."""

    metadata: Metadata
    spec: ServiceSpec | None = None
    status: ServiceStatus | None = None


class Conditions(msgspec.Struct, gc=False):
    """The field `ready` of EndpointConditions."""

    ready: bool | None = None


class TargetRef(msgspec.Struct, gc=False):
    """The fields of core/v1 ObjectReference that are used."""

    name: str | None = None


class ApiEndpoint(msgspec.Struct):
    """The fields of an endpoint of an EndpointSlice that are used."""

    addresses: list[str] | None = None
    conditions: Conditions | None = None
    hostname: str | None = None
    targetRef: TargetRef | None = None
    zone: str | None = None


class ApiSlice(msgspec.Struct):
    """The fields of discovery.k8s.io/v1 EndpointSlice that are used."""

    metadata: Metadata
    endpoints: list[ApiEndpoint] | None = None
    ports: list[ApiPort] | None = None


class ApiNamespace(msgspec.Struct):
    """The fields of core/v1 Namespace that are used."""

    metadata: Metadata


class PodAddress(msgspec.Struct, gc=False):
    """The fields of core/v1 PodIP that are used."""

    ip: str | None = None


class PodSpec(msgspec.Struct, gc=False):
    """The fields of core/v1 PodSpec that are used."""

    hostNetwork: bool | None = None


class PodStatus(msgspec.Struct):
    """The fields of core/v1 PodStatus that are used."""

    podIP: str | None = None
    podIPs: list[PodAddress] | None = None


class ApiPod(msgspec.Struct):
    """The fields of core/v1 Pod that are used."""

    metadata: Metadata
    spec: PodSpec | None = None
    status: PodStatus | None = None


class ServiceImportSpec(msgspec.Struct):
    """The fields of multicluster.x-k8s.io/v1alpha1 ServiceImportSpec that are used."""

    type: str | None = None
    ips: list[str] | None = None
    ports: list[ApiPort] | None = None


class ApiServiceImport(msgspec.Struct):
    """The fields of multicluster.x-k8s.io/v1alpha1 ServiceImport that are used."""

    metadata: Metadata
    spec: ServiceImportSpec | None = None


class Status(msgspec.Struct):
    """meta/v1 Status: the body of an error response, or the object of an ERROR event."""

    code: int = 0
    reason: str = ""
    message: str = ""


class Event(msgspec.Struct):
    """One event of a watch. `object` stays encoded until its type is known."""

    type: str
    object: msgspec.Raw


class DecodedEvent(msgspec.Struct, Generic[T]):
    """One event of a watch, with its object."""

    type: str
    object: T


class Bookmark(msgspec.Struct):
    """The object of a BOOKMARK event."""

    metadata: Metadata


class Page(msgspec.Struct, Generic[T]):
    """One page of the list of a resource."""

    metadata: ListMetadata
    items: list[T] | None = None


decode_event = msgspec.json.Decoder(Event).decode
decode_bookmark = msgspec.json.Decoder(Bookmark).decode
decode_status = msgspec.json.Decoder(Status).decode
_decode_raw_page = msgspec.json.Decoder(Page[msgspec.Raw]).decode


class Item(msgspec.Struct, frozen=True):
    """The object of a watch event.

    `trimmed` has the needed fields of the object. The field is None if the object is ignored, such as a Pod that is
    being deleted.
    """

    namespace: str
    name: str
    version: str
    trimmed: ClusterObject | None
    annotations: dict[str, str] | None = None


class ItemDecoder:
    """Decodes the list pages and the objects of one kind.

    Octets that are not JSON raise one of UNDECODABLE (see `svcdns.errors`). An item of a page with a wrong shape is
    left out and counted.
    """

    def __init__(self, api_type: type[Any], trim: Callable[[Any], ClusterObject | None]) -> None:
        self._decode_page: Callable[[bytes], Page[Any]] = msgspec.json.Decoder(Page[api_type]).decode  # type: ignore[valid-type]
        self._decode_event: Callable[[bytes], DecodedEvent[Any]] = msgspec.json.Decoder(DecodedEvent[api_type]).decode  # type: ignore[valid-type]
        self._decode_object: Callable[[bytes | msgspec.Raw], Any] = msgspec.json.Decoder(api_type).decode
        self._trim = trim

    def page(self, body: bytes) -> tuple[list[ClusterObject], ListMetadata, int]:
        """Returns the converted objects of a page, the list's metadata, and the number of items with a wrong shape."""
        try:
            page = self._decode_page(body)
        except msgspec.ValidationError:
            return self._page_by_item(body)
        trimmed = [item for item in map(self._trim, page.items or ()) if item is not None]
        return trimmed, page.metadata, 0

    def event(self, line: bytes) -> DecodedEvent[Any]:
        """Decodes an event with its object.

        An object of another kind, such as a Status, is decoded as an object of this kind. Raises
        `msgspec.ValidationError` if that is impossible.
        """
        return self._decode_event(line)

    def object(self, raw: msgspec.Raw) -> Item:
        """Decodes the object of an ADDED, MODIFIED or DELETED event."""
        return self.item(self._decode_object(raw))

    def item(self, decoded: Any) -> Item:
        """Converts the decoded object of an event."""
        metadata: Metadata = decoded.metadata
        return Item(
            metadata.namespace, metadata.name, metadata.resourceVersion, self._trim(decoded), metadata.annotations
        )

    def _page_by_item(self, body: bytes) -> tuple[list[ClusterObject], ListMetadata, int]:
        page = _decode_raw_page(body)
        items = page.items or []
        decoded = []
        for raw in items:
            with contextlib.suppress(msgspec.ValidationError):
                decoded.append(self._decode_object(raw))
        trimmed = [item for item in map(self._trim, decoded) if item is not None]
        return trimmed, page.metadata, len(items) - len(decoded)


def service(given: ApiService) -> Service:
    """Converts a Service of the API to one of `cluster.objects`.

    The external name is kept only for the type ExternalName. As in CoreDNS, any other Service without a cluster IP has
    one empty text in `cluster_ips`, and is answered like an ExternalName with an empty name.
    """
    spec = given.spec or ServiceSpec()
    cluster_ips = tuple(spec.clusterIPs or ()) or (
        (spec.clusterIP or "",) if spec.clusterIP or spec.type != "ExternalName" else ()
    )
    balancer = given.status.loadBalancer if given.status else None
    ingress = (entry.ip or entry.hostname for entry in (balancer.ingress if balancer else None) or ())
    return Service(
        namespace=given.metadata.namespace,
        name=given.metadata.name,
        cluster_ips=cluster_ips,
        ports=_ports(spec.ports) or PLACEHOLDER_PORTS,
        external_name=(spec.externalName or "") if spec.type == "ExternalName" else None,
        external_ips=(*(spec.externalIPs or ()), *(address for address in ingress if address)),
    )


def endpoint_slice(given: ApiSlice, *, zones: bool = False, targets: bool = True) -> EndpointSlice:
    """Converts an EndpointSlice of the API to one of `cluster.objects`.

    If `zones` is true, the topology zones of endpoints are kept. If `targets` is true, the names of their Pods are
    kept.
    """
    metadata = given.metadata
    return EndpointSlice(
        namespace=metadata.namespace,
        name=metadata.name,
        service=(metadata.labels or {}).get(SERVICE_LABEL, ""),
        ports=_ports(given.ports) or PLACEHOLDER_PORTS,
        endpoints=_endpoints(given, zones=zones, targets=targets),
    )


def imported_slice(given: ApiSlice, *, targets: bool = True) -> ImportedSlice:
    """Converts an EndpointSlice of a multi-cluster Service to an `ImportedSlice`.

    If `targets` is true, the names of Pods are kept. Topology zones are left out.
    """
    metadata = given.metadata
    labels = metadata.labels or {}
    return ImportedSlice(
        namespace=metadata.namespace,
        name=metadata.name,
        service=labels.get(IMPORTED_SERVICE_LABEL, ""),
        ports=_ports(given.ports) or PLACEHOLDER_PORTS,
        endpoints=_endpoints(given, zones=False, targets=targets),
        cluster=labels.get(SOURCE_CLUSTER_LABEL, ""),
    )


def namespace(given: ApiNamespace, *, labels: bool = False) -> Namespace:
    """Converts a Namespace of the API to one of `cluster.objects`. If `labels` is true, its labels are kept."""
    kept = tuple(sorted((given.metadata.labels or {}).items())) if labels else ()
    return Namespace(name=given.metadata.name, labels=kept)


def pod(given: ApiPod, *, clients: bool = False, labels: Container[str] = ()) -> Pod | None:
    """Converts a Pod of the API to one of `cluster.objects`. Returns None for a Pod that is being deleted.

    The Pod's labels with a key in `labels` are kept. If `clients` is true, all its addresses are kept, and whether it
    uses the network of its node.
    """
    metadata = given.metadata
    if metadata.deletionTimestamp is not None:
        return None
    status = given.status or PodStatus()
    primary = status.podIP or ""
    kept = kept_labels(metadata.labels, labels) if labels else ()
    if not clients:
        return Pod(namespace=metadata.namespace, name=metadata.name, ip=primary, labels=kept)
    more = dict.fromkeys(one.ip for one in status.podIPs or () if one.ip and one.ip != primary)
    return Pod(
        namespace=metadata.namespace,
        name=metadata.name,
        ip=primary,
        more_ips=tuple(more),
        host_network=given.spec is not None and bool(given.spec.hostNetwork),
        labels=kept,
    )


def kept_labels(labels: Mapping[str, str] | None, keys: Container[str]) -> tuple[tuple[str, str], ...]:
    """Returns the labels with a key in `keys`, sorted; all labels if ALL_LABELS is in `keys`."""
    keep_all = ALL_LABELS in keys
    return tuple(sorted((key, value) for key, value in (labels or {}).items() if keep_all or key in keys))


def service_import(given: ApiServiceImport) -> ServiceImport:
    """Converts a ServiceImport of the API to one of `cluster.objects`."""
    spec = given.spec or ServiceImportSpec()
    return ServiceImport(
        namespace=given.metadata.namespace,
        name=given.metadata.name,
        headless=spec.type == "Headless",
        ips=tuple(spec.ips or ()),
        ports=_ports(spec.ports),
    )


def trigger_time(annotations: dict[str, str] | None) -> float:
    """Returns the annotation last-change-trigger-time (RFC 3339) in Unix seconds, or 0 if there is none.

    Raises ValueError if the annotation is not a time.
    """
    text = (annotations or {}).get(TRIGGER_TIME_ANNOTATION)
    if text is None:
        return 0.0
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"no time zone in {text!r}")
    return moment.timestamp()


def _endpoints(given: ApiSlice, *, zones: bool, targets: bool) -> tuple[Endpoint, ...]:
    out: list[Endpoint] = []
    for endpoint in given.endpoints or ():
        if endpoint.conditions is not None and endpoint.conditions.ready is False:
            continue
        hostname = endpoint.hostname or ""
        target = (endpoint.targetRef.name or "") if targets and endpoint.targetRef is not None else ""
        zone = (endpoint.zone or "") if zones else ""
        for address in endpoint.addresses or ():
            out.append(Endpoint(address, hostname, target, zone))  # noqa: PERF401  a generator for the one address takes twice as long
    return tuple(out)


def _ports(given: list[ApiPort] | None) -> tuple[Port, ...]:
    return tuple(
        Port(name=port.name or "", protocol=port.protocol or "", number=NO_PORT if port.port is None else port.port)
        for port in given or ()
    )
