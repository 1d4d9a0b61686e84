"""The watch options: which cluster is watched, and which of its objects. The options of `kubernetes` lead to them.

They are hashable and go between processes. A reload compares them to find out whether the watch has to change. Nothing
is read here.
"""

from __future__ import annotations

import msgspec

from svcdns.errors import SvcdnsError


class SourceError(SvcdnsError):
    """A source cannot be set up as configured. `str(error)` is one line that names what to correct."""


class WatchOptions(msgspec.Struct, frozen=True, array_like=True):
    """What to watch, and where. `manifests` wins over `kubeconfig`, and `kubeconfig` over `endpoint`; without any the
    process is in a cluster.

    `tls` is (certificate, key, CA certificate), paths, used with `endpoint` only; an empty `context` is the
    kubeconfig's current one. `labels` selects Services, slices and Pods; `namespace_labels` selects Namespaces and
    ServiceImports. `pods` watches Pods and `multicluster` ServiceImports with their slices. `zones` stores the topology
    zone of endpoints, `targets` the names of their Pods, which take most of an endpoint's memory.
    """

    endpoint: str = ""
    tls: tuple[str, str, str] | None = None
    kubeconfig: str = ""
    context: str = ""
    labels: str = ""
    namespace_labels: str = ""
    endpoint_slices: bool = True
    pods: bool = False
    zones: bool = False
    targets: bool = False
    multicluster: bool = False
    manifests: tuple[str, ...] = ()


class SnapshotOptions(msgspec.Struct, frozen=True, array_like=True):
    """The snapshot of a view: the folder of its file; its largest age at a start in seconds, 0 for any age; and whether
    the server is ready while it serves from it."""

    path: str
    max_age: float = 0.0
    ready: bool = True
