"""From the labels left of an external zone to what they stand for, and from an address to its names
(docs/behaviour/plugins.md#k8s_external).

The cluster, and what of it may be seen, are those of the `kubernetes` of the same block. Nothing here knows record types or bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from svcdns.cluster.addresses import endpoint_name
from svcdns.cluster.changes import Dependency
from svcdns.cluster.index import Index
from svcdns.cluster.objects import EndpointSlice, Port, Service


class ClusterOptions(Protocol):
    """The options of `kubernetes` that hold outside too: `ttl` in seconds, exposed namespaces (none: all), names of endpoints."""

    ttl: int
    namespaces: frozenset[str]
    endpoint_pod_names: bool


class Cluster(Protocol):
    """What is taken of the handler of `kubernetes`."""

    index: Index
    options: ClusterOptions
    extended: int | None


class Entry(NamedTuple):
    """An external address or host name, a port of it (NO_PORT: none), and the name below the zone that SRV records lead to."""

    host: str
    port: Port
    name: str


class Lookup:
    """Answers from one cluster; the facts that an answer rests on are put behind `dependencies`."""

    def __init__(self, cluster: Cluster, *, headless: bool) -> None:
        """`headless`: endpoints of Services without external addresses are shown too."""
        self.index, self.options, self.headless = cluster.index, cluster.options, headless

    def find(self, labels: list[str], dependencies: list[Dependency]) -> list[Entry] | None:
        """What labels, lowered and leftmost first, stand for; empty for a namespace, None where there is no such name."""
        *left, namespace = labels
        dependencies.append(("namespace", namespace))
        if not self._exposed(namespace) or len(left) > 3:
            return None
        if not left:
            return []
        *left, name = left
        dependencies.append(("service", namespace, name))
        service = self.index.service(namespace, name)
        if service is None:
            return None
        endpoint = left[0].removeprefix("_") if len(left) == 1 else ""
        port, protocol = (label.removeprefix("_") for label in left) if len(left) == 2 else ("", "")
        if self.headless and not service.external_ips and (service.headless or endpoint):
            dependencies.append(("endpoints", namespace, name))
            found = endpoints(service, self.index.slices(namespace, name), pod_names=self.options.endpoint_pod_names)
            entries = [entry for label, entry in found if not endpoint or label.lower() == endpoint]
        else:
            entries = list(external(service))
        return [entry for entry in entries if _fits(entry.port, port, protocol)] or None

    def at(self, address: str, dependencies: list[Dependency]) -> list[str]:
        """The names of the Services with that external address; hidden namespaces count only where `namespaces` is set."""
        dependencies.append(("external", address))
        found: dict[str, None] = {}
        for service in self.index.services_outside_at(address):
            namespace = service.namespace.lower()
            if self.options.namespaces:
                dependencies.append(("namespace", namespace))
                if not self._exposed(namespace):
                    continue
            found[f"{service.name}.{service.namespace}"] = None
        return list(found)

    def servers(self, local_addresses: tuple[str, ...], dependencies: list[Dependency]) -> list[str]:
        """The external addresses of the Services whose endpoints hold one of this machine's, else this machine's."""
        out: list[str] = []
        seen = False
        for local in local_addresses:
            dependencies.append(("address", local))
            for slice_ in self.index.slices_at(local):
                seen = True
                key = slice_.namespace.lower(), slice_.service.lower()
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


def external(service: Service) -> Iterator[Entry]:
    """Each external address with each port."""
    name = f"{service.name}.{service.namespace}"
    return (Entry(host, port, name) for host in service.external_ips for port in service.ports)


def endpoints(service: Service, slices: Iterable[EndpointSlice], *, pod_names: bool) -> Iterator[tuple[str, Entry]]:
    """Each endpoint's label, and its address with each port of its slice."""
    base = f"{service.name}.{service.namespace}"
    for slice_ in slices:
        for endpoint in slice_.endpoints:
            label = endpoint_name(endpoint.address, endpoint.hostname, endpoint.target, pod_names=pod_names)
            name = f"{label}.{base}" if label else base
            for port in slice_.ports:
                yield label, Entry(endpoint.address, port, name)


def _fits(port: Port, name: str, protocol: str) -> bool:
    return (not name or name == port.name.lower()) and (not protocol or protocol == port.protocol.lower())
