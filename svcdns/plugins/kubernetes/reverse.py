"""Finds the targets of PTR records (docs/behaviour/cluster-names.md#reverse-names).

The target is the Service that has the address. If there is none, the targets are the endpoints that have the address.
"""

from __future__ import annotations

from svcdns.cluster.addresses import endpoint_name
from svcdns.cluster.changes import Dependency
from svcdns.cluster.index import Index
from svcdns.plugin_api.visibility import Visibility
from svcdns.plugins.kubernetes.lookup import Lookup
from svcdns.plugins.kubernetes.options import Options


def targets(
    address: str,
    index: Index,
    lookup: Lookup,
    options: Options,
    dependencies: list[Dependency],
    visibility: Visibility | None = None,
) -> list[str]:
    """Returns the PTR targets of an address, relative to the primary zone and without duplicates.

    As in CoreDNS, namespaces that are not exposed are left out only if the option `namespaces` is set. Services that
    the client may not see, and EndpointSlices without a Service, are left out.
    """
    dependencies.append(("address", address))

    def visible(namespace: str, service: str) -> bool:
        if options.namespaces:
            dependencies.append(("namespace", namespace.lower()))
            if not lookup.exposed(namespace.lower()):
                return False
        return visibility is None or visibility.shows(namespace.lower(), service.lower(), dependencies)

    for service in index.services_at(address):
        if visible(service.namespace, service.name):
            return [f"{service.name}.{service.namespace}.svc"]
    found: dict[str, None] = {}
    for slice_ in index.slices_at(address):
        if slice_.service and visible(slice_.namespace, slice_.service):
            for endpoint in slice_.endpoints:
                if endpoint.address == address:
                    label = endpoint_name(
                        address, endpoint.hostname, endpoint.target, pod_names=options.endpoint_pod_names
                    )
                    found[f"{label}.{slice_.service}.{slice_.namespace}.svc"] = None
    return list(found)
