"""Builds the EndpointSlices of Services from Pods and from Endpoints objects, as the controllers of Kubernetes do.

A Service with a selector gets slices of its ready Pods. A slice has one address family, one set of resolved ports, and
at most 100 endpoints. An Endpoints object is mirrored if its Service has no selector. Endpoints that are not ready are
left out.

Source: Kubernetes documentation, "EndpointSlices", "Service" (publishNotReadyAddresses, targetPort), "DNS for Services
and Pods" (hostname and subdomain).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import Final

from svcdns.cluster.objects import PLACEHOLDER_PORTS, Endpoint, EndpointSlice, Port
from svcdns.sources.manifests.address_pool import suffix
from svcdns.sources.manifests.schemas import EndpointsObject, ServiceSpec
from svcdns.sources.manifests.workloads import OVER, ClusterPod

MAX_ENDPOINTS: Final = 100
MAX_MIRRORED: Final = 1000
ZONE_LABEL: Final = "topology.kubernetes.io/zone"

_Group = tuple[str, tuple[Port, ...]]
"""The address family and the ports, which are the same for all endpoints of a slice."""


class PodsByLabel:
    """Finds the Pods that match a label selector."""

    def __init__(self, pods: Iterable[ClusterPod]) -> None:
        """Pods that have ended are left out."""
        self._pods: dict[tuple[str, str, str], list[ClusterPod]] = {}
        for pod in pods:
            if pod.phase not in OVER:
                for label, value in pod.labels.items():
                    self._pods.setdefault((pod.namespace, label, value), []).append(pod)

    def matching(self, namespace: str, selector: dict[str, str]) -> list[ClusterPod]:
        """Returns the Pods of the namespace that have all labels of the selector, which must not be empty.

        The Pods are sorted by `order`.
        """
        candidates = min((self._pods.get((namespace, *wanted), []) for wanted in selector.items()), key=len)
        return sorted(
            (pod for pod in candidates if selector.items() <= pod.labels.items()), key=lambda pod: (pod.order, pod.name)
        )


def slices_of_pods(
    namespace: str, name: str, spec: ServiceSpec, families: Sequence[str], pods: Iterable[ClusterPod], *, zones: bool
) -> Iterator[EndpointSlice]:
    """Yields the slices of a Service with a selector. `pods` are the Pods that match."""
    groups: dict[_Group, list[Endpoint]] = {}
    for pod in pods:
        if not (spec.publishNotReadyAddresses or (pod.ready and not pod.terminating)):
            continue
        ports = _resolved(spec, pod)
        hostname = pod.hostname if pod.subdomain == name else ""
        zone = pod.labels.get(ZONE_LABEL, "") if zones else ""
        for address in pod.addresses:
            if (family := _family(address)) in families:
                groups.setdefault((family, ports), []).append(Endpoint(address, hostname, pod.name, zone))
    return _slices(namespace, name, groups, MAX_ENDPOINTS)


def mirrored(namespace: str, name: str, given: EndpointsObject) -> Iterator[EndpointSlice]:
    """Yields the EndpointSlices that mirror an Endpoints object."""
    groups: dict[_Group, list[Endpoint]] = {}
    for subset in given.subsets:
        ports = tuple(Port(port.name, port.protocol, port.port) for port in subset.ports)
        for address in subset.addresses:
            target = (address.targetRef.name if address.targetRef else None) or ""
            groups.setdefault((_family(address.ip), ports), []).append(Endpoint(address.ip, address.hostname, target))
    return _slices(namespace, name, groups, MAX_MIRRORED)


def _resolved(spec: ServiceSpec, pod: ClusterPod) -> tuple[Port, ...]:
    """Returns the Service's ports on one Pod.

    A port is left out if no container port has the name in its targetPort.
    """
    found = []
    for port in spec.ports:
        target = port.targetPort or port.port
        if isinstance(target, str):
            named = (own.containerPort for own in pod.ports if own.name == target and own.protocol == port.protocol)
            target = next(named, -1)
        if target != -1:
            found.append(Port(port.name, port.protocol, target))
    return tuple(found)


def _slices(namespace: str, service: str, groups: dict[_Group, list[Endpoint]], most: int) -> Iterator[EndpointSlice]:
    taken: set[str] = set()
    for (family, ports), endpoints in groups.items():
        for number, first in enumerate(range(0, len(endpoints), most)):
            end = suffix(f"{namespace}/{service}/{family}/{ports}/{number}", 5, taken)
            taken.add(end)
            part = tuple(endpoints[first : first + most])
            yield EndpointSlice(namespace, f"{service}-{end}", service, ports or PLACEHOLDER_PORTS, part)


def _family(address: str) -> str:
    return f"IPv{ip_address(address).version}"
