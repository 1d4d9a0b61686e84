"""What is watched at an API server: for each kind its place in the API, its selectors and its decoder.

The one place that says which options lead to which request. Selectors are the server's business; here they are only
put together. Source: the rights and selectors that CoreDNS' `kubernetes` plugin uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from svcdns.cluster.changes import Kind
from svcdns.cluster.sources import decoding
from svcdns.cluster.sources.decoding import ItemDecoder
from svcdns.cluster.sources.options import WatchOptions

LIVE_PODS = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"


@dataclass(frozen=True, slots=True)
class Resource:
    """One list and watch. `qualified` is resource.group as RBAC messages show it; the selectors may be empty."""

    kind: Kind
    path: str
    qualified: str
    decoder: ItemDecoder
    label_selector: str = ""
    field_selector: str = ""


def watched(options: WatchOptions) -> tuple[Resource, ...]:
    """The lists and watches that `options` ask for, all of them over every namespace."""
    resources = [
        Resource(Kind.SERVICE, "/api/v1/services", "services", ItemDecoder(decoding.ApiService, decoding.service), options.labels),
        Resource(
            Kind.NAMESPACE,
            "/api/v1/namespaces",
            "namespaces",
            ItemDecoder(decoding.ApiNamespace, decoding.namespace),
            options.namespace_labels,
        ),
    ]
    if options.endpoint_slices:
        trim = partial(decoding.endpoint_slice, zones=options.zones, targets=options.targets)
        resources.append(_slices(Kind.ENDPOINT_SLICE, ItemDecoder(decoding.ApiSlice, trim), options.labels))
    if options.pods:
        pods = ItemDecoder(decoding.ApiPod, decoding.pod)
        resources.append(Resource(Kind.POD, "/api/v1/pods", "pods", pods, options.labels, LIVE_PODS))
    if options.multicluster:
        imports = ItemDecoder(decoding.ApiServiceImport, decoding.service_import)
        group = "multicluster.x-k8s.io"
        # ServiceImports go by the selector of namespaces, not by `labels`: CoreDNS does so, and rules may rely on it.
        resources.append(
            Resource(
                Kind.SERVICE_IMPORT, f"/apis/{group}/v1alpha1/serviceimports", f"serviceimports.{group}", imports, options.namespace_labels
            )
        )
        selector = ",".join(filter(None, (options.labels, decoding.IMPORTED_SERVICE_LABEL)))
        trim_imported = partial(decoding.imported_slice, targets=options.targets)
        resources.append(_slices(Kind.IMPORTED_SLICE, ItemDecoder(decoding.ApiSlice, trim_imported), selector))
    return tuple(resources)


def _slices(kind: Kind, decoder: ItemDecoder, selector: str) -> Resource:
    group = "discovery.k8s.io"
    return Resource(kind, f"/apis/{group}/v1/endpointslices", f"endpointslices.{group}", decoder, selector)
