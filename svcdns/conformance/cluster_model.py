"""A model of the cluster that the server under test answers for. The expected records are computed from the model.

The model is made from objects of the API server (`from_objects`) or from manifest files (`from_manifests`). The model
has Services, EndpointSlices, Namespaces and Pods. Source: core/v1, discovery.k8s.io/v1.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from svcdns.cluster.objects import NO_PORT, EndpointSlice, Namespace, Pod
from svcdns.cluster.objects import Service as ServiceObject

SERVICE_LABEL: Final = "kubernetes.io/service-name"
Object = Mapping[str, Any]
Name = tuple[str, str]
"""The namespace and the name of an object."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port. `name` may be empty. `protocol` is in lower case, as in DNS names."""

    name: str
    protocol: str
    number: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A ready endpoint of a Service, with one address in canonical text.

    `hostname` is empty if there is none. `ports` are those of the EndpointSlice.
    """

    address: str
    hostname: str = ""
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True)
class Service:
    """A Service with its ready endpoints.

    `type` is empty if it is unknown. `cluster_ips` is empty for headless Services and ExternalNames.
    """

    namespace: str
    name: str
    type: str = ""
    cluster_ips: tuple[str, ...] = ()
    headless: bool = False
    external_name: str = ""
    ports: tuple[Port, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    by_name: bool = False
    """True if an EndpointSlice of addressType FQDN exists, which the specification does not cover."""

    def of_family(self, version: int) -> tuple[str, ...]:
        """Returns the ClusterIPs of IP version 4 or 6."""
        return tuple(ip for ip in self.cluster_ips if ipaddress.ip_address(ip).version == version)


@dataclass(frozen=True)
class Cluster:
    """All objects that have DNS names. If `complete` is True, no other names exist in the zone."""

    services: tuple[Service, ...] = ()
    namespaces: frozenset[str] = frozenset()
    pods: tuple[Name, ...] = ()
    """The namespace and the IP address of each Pod."""
    complete: bool = True

    def service(self, namespace: str, name: str) -> Service | None:
        """Returns the Service with this namespace and name, or None."""
        return next((s for s in self.services if (s.namespace, s.name) == (namespace, name)), None)

    def services_with(self, address: str) -> list[tuple[Service, Endpoint | None]]:
        """Returns the Services that have this address, as ClusterIP or as address of an endpoint.

        The address must be in canonical text. The second item of a pair is the endpoint, or None for a ClusterIP.
        """
        return self._by_address.get(address, [])

    @functools.cached_property
    def _by_address(self) -> dict[str, list[tuple[Service, Endpoint | None]]]:
        found: dict[str, list[tuple[Service, Endpoint | None]]] = {}
        for service in self.services:
            for ip in service.cluster_ips:
                found.setdefault(ip, []).append((service, None))
            for endpoint in service.endpoints:
                found.setdefault(endpoint.address, []).append((service, endpoint))
        return found


def from_objects(objects: Iterable[Object]) -> Cluster:
    """Returns the model of the cluster from API objects in JSON form. Ignores kinds without DNS names."""
    by_kind: dict[str, list[Object]] = {}
    for item in objects:
        by_kind.setdefault(item["kind"], []).append(item)
    endpoints: dict[Name, list[Endpoint]] = {}
    for item in by_kind.get("EndpointSlice", []):
        metadata = item["metadata"]
        service = (metadata.get("labels") or {}).get(SERVICE_LABEL, "")
        endpoints.setdefault((metadata["namespace"], service), []).extend(_endpoints(item))
    by_name: set[Name] = {
        (item["metadata"]["namespace"], (item["metadata"].get("labels") or {}).get(SERVICE_LABEL, ""))
        for item in by_kind.get("EndpointSlice", [])
        if item.get("addressType") == "FQDN"
    }
    services = tuple(_service(item, endpoints, by_name) for item in by_kind.get("Service", []))
    pods = tuple(
        (item["metadata"]["namespace"], item["status"]["podIP"])
        for item in by_kind.get("Pod", [])
        if (item.get("status") or {}).get("podIP") and item["status"].get("phase") in (None, "Pending", "Running")
    )
    return Cluster(services, frozenset(item["metadata"]["name"] for item in by_kind.get("Namespace", [])), pods)


def canonical(addresses: Iterable[str]) -> Iterator[str]:
    """Yields the IP addresses in canonical text.

    An IPv4-mapped address becomes the IPv4 address. A text that is not an address is left out.
    """
    for text in addresses:
        with contextlib.suppress(ValueError):
            ip = ipaddress.ip_address(text)
            yield str((ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None) or ip)


def _service(item: Object, endpoints: Mapping[Name, list[Endpoint]], by_name: Collection[Name]) -> Service:
    metadata, spec = item["metadata"], item.get("spec") or {}
    key = (metadata["namespace"], metadata["name"])
    kind = spec.get("type") or "ClusterIP"
    ips = tuple(spec.get("clusterIPs") or filter(None, [spec.get("clusterIP")]))
    headless = kind != "ExternalName" and ips[:1] == ("None",)
    external = kind == "ExternalName"
    return Service(
        *key,
        type=kind,
        cluster_ips=() if headless or external else tuple(canonical(ips)),
        headless=headless,
        external_name=spec.get("externalName") or "" if external else "",
        ports=_ports(spec.get("ports")),
        endpoints=_unique(endpoints.get(key, [])),
        by_name=key in by_name,
    )


def _endpoints(item: Object) -> Iterable[Endpoint]:
    """Yields the ready endpoints of an EndpointSlice.

    An endpoint is ready if `ready` is true or missing (discovery.k8s.io/v1 EndpointConditions).
    """
    ports = _ports(item.get("ports"))
    for endpoint in item.get("endpoints") or ():
        if (endpoint.get("conditions") or {}).get("ready") is not False and item.get("addressType") != "FQDN":
            yield from (
                Endpoint(a, endpoint.get("hostname") or "", ports) for a in canonical(endpoint.get("addresses") or ())
            )


def _ports(given: Sequence[Object] | None) -> tuple[Port, ...]:
    return tuple(
        Port(p.get("name") or "", (p.get("protocol") or "TCP").lower(), p["port"]) for p in given or () if p.get("port")
    )


def _unique(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Merges endpoints that have the same address and hostname. The merged endpoint has all their ports."""
    found: dict[Name, Endpoint] = {}
    for endpoint in endpoints:
        key = (endpoint.address, endpoint.hostname)
        before = found.get(key)
        ports = endpoint.ports if before is None else tuple(dict.fromkeys(before.ports + endpoint.ports))
        found[key] = Endpoint(*key, ports)
    return tuple(found.values())


def from_manifests(paths: Sequence[str]) -> Cluster:
    """Returns the model of the cluster from YAML files and folders. Raises ManifestError.

    The files are read as by the option `manifests` of the plugin *kubernetes*.
    """
    from svcdns.cluster.changes import Kind
    from svcdns.sources.label_selectors import matcher
    from svcdns.sources.manifests.cluster import Reader, Selection, build
    from svcdns.sources.manifests.files import find
    from svcdns.sources.manifests.schemas import ServiceObject as Spelled

    written = Reader().read(find(tuple(paths)))
    kinds = (Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NAMESPACE, Kind.POD)
    objects = build(written, Selection(kinds, False, matcher(""), matcher(""))).objects.values()
    types = {(item.namespace, item.name): item.body.spec.type for item in written if isinstance(item.body, Spelled)}
    endpoints: dict[Name, list[Endpoint]] = {}
    by_name: set[Name] = set()
    for item in objects:
        if isinstance(item, EndpointSlice):
            if any(not list(canonical([e.address])) for e in item.endpoints):
                by_name.add((item.namespace, item.service))
            ports = tuple(Port(p.name, p.protocol.lower(), p.number) for p in item.ports if p.number != NO_PORT)
            endpoints.setdefault((item.namespace, item.service), []).extend(
                Endpoint(address, e.hostname, ports) for e in item.endpoints for address in canonical([e.address])
            )
    services = [_trimmed(item, types, endpoints, by_name) for item in objects if isinstance(item, ServiceObject)]
    namespaces = frozenset(item.name for item in objects if isinstance(item, Namespace))
    return Cluster(
        tuple(services),
        namespaces,
        tuple((item.namespace, item.ip) for item in objects if isinstance(item, Pod) and item.ip),
    )


def _trimmed(
    item: ServiceObject, types: Mapping[Name, str], endpoints: Mapping[Name, list[Endpoint]], by_name: Collection[Name]
) -> Service:
    """Converts a Service from a manifest to a Service of the model."""
    key = (item.namespace, item.name)
    external = item.external_name is not None
    return Service(
        *key,
        type=types.get(key, ""),
        cluster_ips=() if item.headless or external else tuple(canonical(item.cluster_ips)),
        headless=item.headless and not external,
        external_name=item.external_name or "",
        ports=tuple(Port(p.name, p.protocol.lower(), p.number) for p in item.ports if p.number != NO_PORT),
        endpoints=_unique(endpoints.get(key, [])),
        by_name=key in by_name,
    )
