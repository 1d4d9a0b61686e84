"""The resources that are watched at an API server: each with its API path, its selectors and its decoder.

Only this module knows which requests follow from which options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from svcdns.cluster.changes import Kind
from svcdns.cluster.watch_options import WatchOptions
from svcdns.sources.api import decoding
from svcdns.sources.api.decoding import ItemDecoder

QUALIFIED: Final[Mapping[Kind, str]] = {
    Kind.SERVICE: "services",
    Kind.ENDPOINT_SLICE: "endpointslices.discovery.k8s.io",
    Kind.IMPORTED_SLICE: "endpointslices.discovery.k8s.io",
    Kind.NAMESPACE: "namespaces",
    Kind.POD: "pods",
    Kind.SERVICE_IMPORT: "serviceimports.multicluster.x-k8s.io",
}
"""The name resource.group of each kind, as in error messages about RBAC."""

LIVE_PODS = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource to list and watch, such as Services. The label and field selectors may be empty."""

    kind: Kind
    path: str
    decoder: ItemDecoder
    label_selector: str = ""
    field_selector: str = ""

    @property
    def qualified(self) -> str:
        """Returns the name `resource.group` for log lines and metrics."""
        return QUALIFIED[self.kind]


def watched(options: WatchOptions) -> tuple[Resource, ...]:
    """Returns the resources to watch for these options, each in all namespaces."""
    resources = [
        Resource(Kind.SERVICE, "/api/v1/services", ItemDecoder(decoding.ApiService, decoding.service), options.labels),
        Resource(
            Kind.NAMESPACE,
            "/api/v1/namespaces",
            ItemDecoder(decoding.ApiNamespace, partial(decoding.namespace, labels=options.clients)),
            options.namespace_labels,
        ),
    ]
    if options.endpoint_slices:
        trim = partial(decoding.endpoint_slice, zones=options.zones, targets=options.targets)
        resources.append(_slices(Kind.ENDPOINT_SLICE, ItemDecoder(decoding.ApiSlice, trim), options.labels))
    if options.pods:
        pods = ItemDecoder(decoding.ApiPod, partial(decoding.pod, clients=options.clients, labels=options.pod_labels))
        resources.append(Resource(Kind.POD, "/api/v1/pods", pods, options.labels, LIVE_PODS))
    if options.multicluster:
        imports = ItemDecoder(decoding.ApiServiceImport, decoding.service_import)
        group = "multicluster.x-k8s.io"
        # `namespace_labels`, not `labels`, selects ServiceImports, as in CoreDNS: configurations may rely on it.
        resources.append(
            Resource(Kind.SERVICE_IMPORT, f"/apis/{group}/v1alpha1/serviceimports", imports, options.namespace_labels)
        )
        selector = ",".join(filter(None, (options.labels, decoding.IMPORTED_SERVICE_LABEL)))
        trim_imported = partial(decoding.imported_slice, targets=options.targets)
        resources.append(_slices(Kind.IMPORTED_SLICE, ItemDecoder(decoding.ApiSlice, trim_imported), selector))
    return tuple(resources)


def _slices(kind: Kind, decoder: ItemDecoder, selector: str) -> Resource:
    return Resource(kind, "/apis/discovery.k8s.io/v1/endpointslices", decoder, selector)
