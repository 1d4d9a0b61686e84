"""Which cluster is watched and what of it: the value that `kubernetes` options boil down to.

It is hashable and travels between processes, so that a reload can tell by comparing whether the watch has to change
at all. Nothing is read or connected here.
"""

from __future__ import annotations

import msgspec

from svcdns.errors import SvcdnsError


class SourceError(SvcdnsError):
    """A source cannot be set up as configured; the text is one line that names what to correct."""


class WatchOptions(msgspec.Struct, frozen=True, array_like=True):
    """What to watch, and where. Of the places, `manifests` wins over `kubeconfig`, that over `endpoint`, and with none of them the
    process is in a cluster.

    `tls` is (certificate, key, CA certificate), paths, used with `endpoint` only; an empty `context` is the kubeconfig's
    current one. `labels` selects Services, slices and Pods; `namespace_labels` selects Namespaces and ServiceImports.
    `pods` watches Pods, `zones` keeps the topology zone of endpoints, `targets` the names of the Pods behind them (which is most of what an
    endpoint takes), `multicluster` watches ServiceImports and their slices.
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
    """Where a view's state is kept on disk: a folder; how old it may be at a start in seconds, 0 for any age; and whether the server counts
    as ready while it serves from there."""

    path: str
    max_age: float = 0.0
    ready: bool = True
