"""The watch options: which cluster is watched, and which of its objects.

They are made from the options of the plugin *kubernetes*, and from the presence of *visibility* in the same block.

Watch options are hashable, and are sent between processes. A reload compares them to find out whether the watch has to
change.
"""

from __future__ import annotations

from typing import Final

import msgspec

from svcdns.errors import SvcdnsError


class SourceError(SvcdnsError):
    """A source of changes cannot be set up as configured. `str(error)` is one line that says what to correct."""


class WatchOptions(msgspec.Struct, frozen=True, array_like=True):
    """Where the cluster is read from, and which of its objects are watched.

    `tls` are the paths of certificate, key and CA certificate, used with `endpoint` only; an empty `context` means the
    kubeconfig's current context. `labels` selects Services, slices and Pods; `namespace_labels` selects Namespaces and
    ServiceImports. `pods` turns on the watch of Pods, `multicluster` the watch of ServiceImports and their slices.
    `zones` stores the topology zone of endpoints, `targets` the names of their Pods, which take most of an endpoint's
    memory. `manifests` are files and folders; files in the folders that match a pattern of `exclude` are not read.
    Objects in manifests without a namespace are in `default_namespace`. `clients` stores what identifies clients: the
    labels of Namespaces, and for Pods all addresses and the use of the node's network.
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


_FIRST_FIELDS: Final = 12
"""The number of fields that programs before `exclude` and `default_namespace` know."""
_SECOND_FIELDS: Final = 14
"""The number of fields that programs before `clients` know."""


def encode_watch(options: WatchOptions) -> bytes:
    """Returns the options in msgpack. The control process and workers identify a cluster view by these octets.

    Fields that were added after the hand-over format are left out if they have their defaults. So this version and an
    older one encode the same options in the same way, and an upgrade in place keeps the views.
    """
    if options.clients:
        return msgspec.msgpack.encode(options)
    known = _SECOND_FIELDS if options.exclude or options.default_namespace != "default" else _FIRST_FIELDS
    return msgspec.msgpack.encode(msgspec.structs.astuple(options)[:known])


class SnapshotOptions(msgspec.Struct, frozen=True, array_like=True):
    """The options of a cluster view's snapshot.

    `path` is the folder of the file. `max_age` is the largest age at a start in seconds, 0 for any. `ready` is True if
    the server reports itself as ready while it serves from the snapshot.
    """

    path: str
    max_age: float = 0.0
    ready: bool = True
