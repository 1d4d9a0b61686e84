"""The watch options: which cluster is watched, and which of its objects.

They are made from the options of `kubernetes`.

Watch options are hashable, and are sent between processes. A reload compares them to find out whether the watch has to
change.
"""

from __future__ import annotations

import msgspec

from svcdns.errors import SvcdnsError


class SourceError(SvcdnsError):
    """A source of changes cannot be set up as configured. `str(error)` is one line that says what to correct."""


class WatchOptions(msgspec.Struct, frozen=True, array_like=True):
    """Where the cluster is read from, and which of its objects are watched.

    The first of `manifests`, `kubeconfig` and `endpoint` that is set is used; if none is, the in-cluster configuration.

    `tls` is (certificate, key, CA certificate), three paths, and is used with `endpoint` only. An empty `context` is
    the kubeconfig's current context. `labels` selects Services, slices and Pods; `namespace_labels` selects Namespaces
    and ServiceImports. `pods` and `multicluster` turn on the watch of Pods, and of ServiceImports with their slices.
    `zones` stores the topology zone of endpoints. `targets` stores the names of endpoints' Pods, which take most of an
    endpoint's memory.
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
    """The options of a view's snapshot.

    `path` is the folder of the file. `max_age` is the largest age at a start in seconds, 0 for any. `ready` is whether
    the server is ready while it serves from the snapshot.
    """

    path: str
    max_age: float = 0.0
    ready: bool = True
