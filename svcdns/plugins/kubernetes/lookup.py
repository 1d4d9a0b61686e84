"""Finds the hosts and ports of a cluster name, and the objects that the result depends on.

A host is an IP address as text, or the host name of an ExternalName Service. This module knows no record types and no
wire format.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from svcdns.cluster.addresses import endpoint_name, pod_address, rdata_of
from svcdns.cluster.changes import Dependency
from svcdns.cluster.index import Index
from svcdns.cluster.objects import EndpointSlice, ImportedSlice, Port, Service
from svcdns.plugin_api.visibility import Visibility
from svcdns.plugins.kubernetes.options import Options
from svcdns.plugins.kubernetes.qname import ClusterName, NoSuchNameError

HostPort = tuple[str, int, str]
"""A host, a port (NO_PORT if none), and the label of an endpoint below the object's name.

The label is empty for the object itself.
"""


class LookupResult(msgspec.Struct):
    """The hosts and ports of a cluster name.

    `base` is the object's name relative to the zone, for SRV targets. The letter case is that of the object.
    """

    host_ports: list[HostPort]
    base: str = ""


NO_RECORDS: Final = LookupResult([])
"""The result for a name that exists and has no records."""


class Lookup:
    """Finds the hosts and ports of cluster names, with one index and one set of options."""

    def __init__(self, index: Index, options: Options) -> None:
        """`index` is only read, never changed."""
        self.index, self.options = index, options

    def find(
        self,
        name: ClusterName,
        dependencies: list[Dependency],
        *,
        multicluster: bool,
        visibility: Visibility | None = None,
    ) -> LookupResult:
        """Returns the hosts and ports of the name. Appends every object that it reads to `dependencies`.

        Objects that the client may not see are treated as nonexistent. Raises NoSuchNameError.
        """
        if not name.subtree:
            return NO_RECORDS
        self.require_namespace(name.namespace, dependencies)
        if visibility is not None and not visibility.shows_namespace(name.namespace, dependencies):
            raise NoSuchNameError
        if name.subtree == "pod":
            if visibility is not None and name.service and not visibility.shows(name.namespace, "", dependencies):
                raise NoSuchNameError
            return self._pod(name, dependencies)
        if not name.service:
            return NO_RECORDS
        if visibility is not None and not self._shows(name, dependencies, visibility, multicluster=multicluster):
            raise NoSuchNameError
        if multicluster:
            return self._import(name, dependencies)
        return self._service(name, dependencies)

    def _shows(
        self, name: ClusterName, dependencies: list[Dependency], visibility: Visibility, *, multicluster: bool
    ) -> bool:
        """Returns False if the Service or ServiceImport exists, but the client may not see it."""
        key = name.namespace, name.service
        dependencies.append(("import" if multicluster else "service", *key))
        exists = (self.index.service_import if multicluster else self.index.service)(*key) is not None
        return not exists or visibility.shows(*key, dependencies)

    def require_namespace(self, namespace: str, dependencies: list[Dependency]) -> None:
        """Raises NoSuchNameError if the namespace is not exposed. Appends the namespace to `dependencies`."""
        dependencies.append(("namespace", namespace))
        if not self.exposed(namespace):
            raise NoSuchNameError

    def exposed(self, namespace: str) -> bool:
        """Returns True if the namespace exists and the option `namespaces` does not exclude it."""
        wanted = self.options.namespaces
        return self.index.has_namespace(namespace) and (not wanted or namespace in wanted)

    # -- Services

    def _service(self, name: ClusterName, dependencies: list[Dependency]) -> LookupResult:
        dependencies.append(("service", name.namespace, name.service))
        service = self.index.service(name.namespace, name.service)
        if service is None:
            raise NoSuchNameError
        found = LookupResult([], f"{service.name}.{service.namespace}.svc")
        if service.external_name is not None:
            return self._external(name, service, found)
        if service.headless or name.endpoint:
            dependencies.append(("endpoints", name.namespace, name.service))
            slices = self.index.slices(name.namespace, name.service)
            if name.directive:
                return self._zonal(name, service, slices, found)
            self._endpoints(name, slices, found)
        else:
            if self.options.ignore_empty_service:
                dependencies.append(("endpoints", name.namespace, name.service))
                if not any(slice_.endpoints for slice_ in self.index.slices(name.namespace, name.service)):
                    raise NoSuchNameError
            if name.directive:
                raise NoSuchNameError
            return _cluster_ips(name, service.ports, service.cluster_ips, found)
        if not found.host_ports:
            raise NoSuchNameError
        return found

    def _external(self, name: ClusterName, service: Service, found: LookupResult) -> LookupResult:
        value = service.external_name or ""
        if name.endpoint or name.port or name.protocol or name.directive or rdata_of(value) is not None:
            raise NoSuchNameError
        found.host_ports.append((value, 0, ""))
        return found

    def _endpoints(self, name: ClusterName, slices: Iterable[EndpointSlice], found: LookupResult) -> None:
        pod_names = self.options.endpoint_pod_names
        wanted = name.endpoint
        for slice_ in slices:
            ports = [port for port in slice_.ports if _fits(name, port)]
            for endpoint in slice_.endpoints:
                label = endpoint_name(endpoint.address, endpoint.hostname, endpoint.target, pod_names=pod_names)
                if not wanted or label.lower() == wanted:
                    found.host_ports += [(endpoint.address, port.number, label) for port in ports]

    def _zonal(
        self, name: ClusterName, service: Service, slices: Iterable[EndpointSlice], found: LookupResult
    ) -> LookupResult:
        if not service.headless:
            raise NoSuchNameError
        whole = [
            (
                endpoint,
                port,
                endpoint_name(
                    endpoint.address, endpoint.hostname, endpoint.target, pod_names=self.options.endpoint_pod_names
                ),
            )
            for slice_ in slices
            for endpoint in slice_.endpoints
            for port in slice_.ports
        ]
        near = [item for item in whole if item[0].zone and item[0].zone.lower() == name.zone]
        if not near and name.directive == "prefer":
            near = whole
        found.host_ports += [(endpoint.address, port.number, label) for endpoint, port, label in near]
        return found

    # -- multi-cluster

    def _import(self, name: ClusterName, dependencies: list[Dependency]) -> LookupResult:
        dependencies.append(("import", name.namespace, name.service))
        imported = self.index.service_import(name.namespace, name.service)
        if imported is None:
            raise NoSuchNameError
        found = LookupResult([], f"{imported.name}.{imported.namespace}.svc")
        slices = self.index.imported_slices(name.namespace, name.service)
        if imported.headless or name.endpoint:
            dependencies.append(("imported", name.namespace, name.service))
            self._imported_endpoints(name, slices, found)
            if not found.host_ports:
                raise NoSuchNameError
            return found
        if self.options.ignore_empty_service:
            dependencies.append(("imported", name.namespace, name.service))
            if not any(slice_.endpoints for slice_ in slices):
                raise NoSuchNameError
        return _cluster_ips(name, imported.ports, imported.ips, found)

    def _imported_endpoints(self, name: ClusterName, slices: Iterable[ImportedSlice], found: LookupResult) -> None:
        for slice_ in slices:
            if name.endpoint and slice_.cluster.lower() != name.cluster:
                continue
            ports = [port for port in slice_.ports if _fits(name, port)]
            for endpoint in slice_.endpoints:
                label = endpoint_name(
                    endpoint.address, endpoint.hostname, endpoint.target, pod_names=self.options.endpoint_pod_names
                )
                if not name.endpoint or label.lower() == name.endpoint:
                    whole = f"{label}.{slice_.cluster}" if slice_.cluster else label
                    found.host_ports += [(endpoint.address, port.number, whole) for port in ports]

    # -- Pods

    def _pod(self, name: ClusterName, dependencies: list[Dependency]) -> LookupResult:
        mode = self.options.pods
        if mode == "disabled":
            raise NoSuchNameError
        if not name.service:
            return NO_RECORDS
        address = pod_address(name.service)
        found = LookupResult([(address, 0, "")], f"{name.service}.{name.namespace}.pod")
        if mode == "insecure":
            if rdata_of(address) is None:
                raise NoSuchNameError
            return found
        dependencies.append(("pod", address))
        if not any(pod.namespace.lower() == name.namespace for pod in self.index.pods_at(address)):
            raise NoSuchNameError
        return found


def _cluster_ips(
    name: ClusterName, ports: Iterable[Port], addresses: Iterable[str], found: LookupResult
) -> LookupResult:
    matched = False
    addresses = tuple(addresses)
    for port in ports:
        if _fits(name, port):
            matched = True
            found.host_ports += [(address, port.number, "") for address in addresses]
    if not matched:
        raise NoSuchNameError
    return found


def _fits(name: ClusterName, port: Port) -> bool:
    return (not name.port or name.port == port.name.lower()) and (
        not name.protocol or name.protocol == port.protocol.lower()
    )
