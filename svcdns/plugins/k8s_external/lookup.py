"""Finds the Services for a name in an external zone, and the names for an external address.

The index and the exposed namespaces are those of *kubernetes* in the same server block. This module knows no record
types and no wire format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from svcdns.cluster.addresses import endpoint_name
from svcdns.cluster.changes import Dependency
from svcdns.cluster.index import Index
from svcdns.cluster.objects import EndpointSlice, Port, Service
from svcdns.plugin_api.visibility import Visibility


class ClusterOptions(Protocol):
    """The options of *kubernetes* that this plugin reads.

    `ttl` is in seconds. If `namespaces` is empty, all namespaces are exposed.
    """

    ttl: int
    namespaces: frozenset[str]
    endpoint_pod_names: bool


class Cluster(Protocol):
    """The attributes and methods of the plugin *kubernetes* that this plugin uses."""

    index: Index
    options: ClusterOptions
    extended: int | None


class HostPort(NamedTuple):
    """An external address or hostname, a port (NO_PORT if there is none), and the target for an SRV record.

    `name` is the target, relative to the zone.
    """

    host: str
    port: Port
    name: str


class Lookup:
    """Finds hosts and ports in one index. Appends every object that it reads to `dependencies`."""

    def __init__(self, cluster: Cluster, *, headless: bool) -> None:
        """If `headless` is true, a headless Service without external addresses gets the addresses of its endpoints."""
        self.index, self.options, self.headless = cluster.index, cluster.options, headless

    def find(
        self, labels: list[str], dependencies: list[Dependency], visibility: Visibility | None = None
    ) -> list[HostPort] | None:
        """Returns the hosts and ports of a name in the external zone. `labels` are the name's labels in lower case.

        Returns an empty list for the name of a namespace, and None if the name does not exist. Objects that the client
        may not see are treated as nonexistent.
        """
        *left, namespace = labels
        dependencies.append(("namespace", namespace))
        if not self._exposed(namespace) or len(left) > 3:
            return None
        if visibility is not None and not visibility.shows_namespace(namespace, dependencies):
            return None
        if not left:
            return []
        *left, name = left
        dependencies.append(("service", namespace, name))
        service = self.index.service(namespace, name)
        if service is None or (visibility is not None and not visibility.shows(namespace, name, dependencies)):
            return None
        endpoint = left[0].removeprefix("_") if len(left) == 1 else ""
        port, protocol = (label.removeprefix("_") for label in left) if len(left) == 2 else ("", "")
        if self.headless and not service.external_ips and (service.headless or endpoint):
            dependencies.append(("endpoints", namespace, name))
            found = endpoints(service, self.index.slices(namespace, name), pod_names=self.options.endpoint_pod_names)
            host_ports = [host_port for label, host_port in found if not endpoint or label.lower() == endpoint]
        else:
            host_ports = list(external(service))
        return [host_port for host_port in host_ports if _fits(host_port.port, port, protocol)] or None

    def at(self, address: str, dependencies: list[Dependency], visibility: Visibility | None = None) -> list[str]:
        """Returns the names of the Services with that external address, relative to the zone.

        As in CoreDNS, namespaces that are not exposed are left out only if the option `namespaces` is set. Services
        that the client may not see are left out.
        """
        dependencies.append(("external", address))
        found: dict[str, None] = {}
        for service in self.index.services_at_external(address):
            namespace = service.namespace.lower()
            if self.options.namespaces:
                dependencies.append(("namespace", namespace))
                if not self._exposed(namespace):
                    continue
            if visibility is not None and not visibility.shows(namespace, service.name.lower(), dependencies):
                continue
            found[f"{service.name}.{service.namespace}"] = None
        return list(found)

    def servers(
        self, local_addresses: tuple[str, ...], dependencies: list[Dependency], visibility: Visibility | None = None
    ) -> list[str]:
        """Returns the external addresses of the Services that have an endpoint at one of `local_addresses`.

        If there is no such Service, returns `local_addresses`. Services that the client may not see are left out.
        """
        out: list[str] = []
        seen = False
        for local in local_addresses:
            dependencies.append(("address", local))
            for slice_ in self.index.slices_at(local):
                key = slice_.namespace.lower(), slice_.service.lower()
                if visibility is not None and not visibility.shows(*key, dependencies):
                    continue
                seen = True
                dependencies += [("service", *key), ("endpoints", *key)]
                service = self.index.service(*key)
                if service is None:
                    continue
                if self.headless and service.headless:
                    out += [endpoint.address for endpoint in slice_.endpoints]
                else:
                    out += service.external_ips
        return out if seen else list(local_addresses)

    def _exposed(self, namespace: str) -> bool:
        wanted = self.options.namespaces
        return self.index.has_namespace(namespace) and (not wanted or namespace in wanted)


def external(service: Service) -> Iterator[HostPort]:
    """Yields each pair of an external address and a port of the Service."""
    name = f"{service.name}.{service.namespace}"
    return (HostPort(host, port, name) for host in service.external_ips for port in service.ports)


def endpoints(service: Service, slices: Iterable[EndpointSlice], *, pod_names: bool) -> Iterator[tuple[str, HostPort]]:
    """Yields each pair of an endpoint and a port of its EndpointSlice, with the endpoint's label."""
    base = f"{service.name}.{service.namespace}"
    for slice_ in slices:
        for endpoint in slice_.endpoints:
            label = endpoint_name(endpoint.address, endpoint.hostname, endpoint.target, pod_names=pod_names)
            name = f"{label}.{base}" if label else base
            for port in slice_.ports:
                yield label, HostPort(endpoint.address, port, name)


def _fits(port: Port, name: str, protocol: str) -> bool:
    return (not name or name == port.name.lower()) and (not protocol or protocol == port.protocol.lower())
