"""The objects of the cluster that lead to an answer, in the form in which an explanation has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from svcdns.cluster.index import Index
from svcdns.cluster.objects import Port, Service
from svcdns.plugins.kubernetes.options import Options as KubernetesOptions
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record import Record

_ALIASES: Final = 12


@dataclass(frozen=True, slots=True)
class Cluster:
    """The `kubernetes` directive of a query's server block: its options and the index of its cluster."""

    options: KubernetesOptions
    index: Index


@dataclass(slots=True)
class Reason:
    """The reason for an answer. `objects` has lines about the objects of the cluster that led to the answer."""

    cause: str
    near: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def has_data(records: Iterable[Record], rtype: int) -> bool:
    """Returns True if the records of an answer are more than a chain of CNAME records, or if CNAME was queried."""
    return any(record.rtype != Type.CNAME or rtype in (Type.CNAME, Type.ANY) for record in records)


def ports_of(service: Service, cluster: Cluster) -> tuple[Port, ...]:
    """Returns the ports for SRV names: those of the EndpointSlices for a headless Service, or else those of the
    Service.
    """
    if not service.headless:
        return service.ports
    slices = cluster.index.slices(service.namespace.lower(), service.name.lower())
    return tuple(dict.fromkeys(port for one in slices for port in one.ports)) or service.ports


def objects_of(service: Service, cluster: Cluster) -> tuple[str, ...]:
    """Returns a line about a Service, and one about each of its EndpointSlices."""
    ports = ", ".join(f"{one.name or '-'} {one.number}/{one.protocol}" for one in service.ports if one.protocol)
    kind = (
        f"ExternalName {service.external_name}" if service.external_name is not None
        else "headless" if service.headless else f"ClusterIP {' '.join(service.cluster_ips)}"
    )  # fmt: skip
    out = [f"Service {service.namespace}/{service.name}: {kind}" + (f"; ports {ports}" if ports else "")]
    for one in cluster.index.slices(service.namespace.lower(), service.name.lower()):
        addresses = " ".join(endpoint.address for endpoint in one.endpoints[:5])
        more = f" and {len(one.endpoints) - 5} more" if len(one.endpoints) > 5 else ""
        ready = f"{len(one.endpoints)} ready endpoint{'' if len(one.endpoints) == 1 else 's'}"
        out.append(f"EndpointSlice {one.namespace}/{one.name}: {ready}{': ' + addresses if addresses else ''}{more}")
    return tuple(out)


def alias_loop(name: bytes, cluster: Cluster) -> Reason | None:
    """Returns the reason if ExternalNames of the cluster form a loop, otherwise None."""
    seen: list[str] = []
    objects: list[str] = []
    text = names.to_text(name).lower()
    for _ in range(_ALIASES):
        service = _service_of(text, cluster)
        if service is None or service.external_name is None:
            return None
        if text in seen:
            way = " -> ".join((*seen[seen.index(text) :], text))
            return Reason(f"the ExternalNames form a loop: {way}", (), tuple(objects))
        seen.append(text)
        objects += objects_of(service, cluster)[:1]
        text = service.external_name.lower().rstrip(".") + "."
    return None


def final_target(service: Service, cluster: Cluster) -> str:
    """Returns the last name of a chain of ExternalNames of the cluster, with a final dot."""
    text = ""
    for _ in range(_ALIASES):
        text = (service.external_name or "").lower().rstrip(".") + "."
        following = _service_of(text, cluster)
        if following is None or following.external_name is None:
            break
        service = following
    return text


def _service_of(name: str, cluster: Cluster) -> Service | None:
    zone = next((one for one in cluster.options.zones if name.endswith(f".svc.{one}")), None)
    if zone is None:
        return None
    labels = name.removesuffix(f".svc.{zone}").split(".")
    return cluster.index.service(labels[1], labels[0]) if len(labels) == 2 else None
