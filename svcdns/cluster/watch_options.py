"""The watch options: which cluster is watched, and which of its objects.

The options come from the plugin *kubernetes*, and from *visibility* in the same block. After a reload, equal options
mean that the watch goes on.
"""

from __future__ import annotations

from typing import Final

import msgspec

from svcdns.errors import SvcdnsError

ALL_LABELS: Final = "*"
"""Stands for all labels, in place of the key of a label."""


class SourceError(SvcdnsError):
    """Raised if a source of changes cannot be set up as configured. The text of the error says what to correct."""


class WatchOptions(msgspec.Struct, frozen=True, array_like=True):
    """Where the cluster is read from, and which of its objects are watched.

    - `tls` has the paths of certificate, key and CA certificate for `endpoint`. If `context` is empty, the kubeconfig's
      current context is used.
    - `labels` selects Services, slices and Pods. `namespace_labels` selects Namespaces and ServiceImports.
    - `pods` turns on the watch of Pods, and `multicluster` that of ServiceImports and their slices.
    - `zones` stores the topology zone of endpoints, and `targets` the names of their Pods.
    - `manifests` has files and folders. Files that match a pattern of `exclude` are not read. Objects without a
      namespace are in `default_namespace`.
    - `clients` stores what identifies clients: labels of Namespaces, and all addresses of Pods.
    - `pod_labels` has the keys of the labels of Pods that are stored, or ALL_LABELS.
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
    exclude: tuple[str, ...] = ()
    default_namespace: str = "default"
    clients: bool = False
    pod_labels: tuple[str, ...] = ()


_FIRST_FIELDS: Final = 12
"""The number of fields that programs before `exclude` and `default_namespace` know."""
_SECOND_FIELDS: Final = 14
"""The number of fields that programs before `clients` know."""
_THIRD_FIELDS: Final = 15
"""The number of fields that programs before `pod_labels` know."""


def encode_watch(options: WatchOptions) -> bytes:
    """Returns the options in msgpack. These octets identify a cluster view.

    Newer fields with their default value are left out. So two versions encode the same options in the same way, and an
    upgrade in place keeps the views.
    """
    if options.pod_labels:
        return msgspec.msgpack.encode(options)
    if options.clients:
        return msgspec.msgpack.encode(msgspec.structs.astuple(options)[:_THIRD_FIELDS])
    known = _SECOND_FIELDS if options.exclude or options.default_namespace != "default" else _FIRST_FIELDS
    return msgspec.msgpack.encode(msgspec.structs.astuple(options)[:known])


class SnapshotOptions(msgspec.Struct, frozen=True, array_like=True):
    """The options of a cluster view's snapshot.

    `path` is the folder of the file. `max_age` is the largest age of a snapshot at a start, in seconds; 0 means any
    age. If `ready` is true, the server reports itself as ready while it serves from the snapshot.
    """

    path: str
    max_age: float = 0.0
    ready: bool = True
