"""Parses the labels of a cluster name that are left of the zone (docs/behaviour/cluster-names.md#name-parsing).

Labels are text in lower case. The parser does not check whether the object exists. As in CoreDNS, the underscores
before port and protocol are optional, and a bare `_` matches every port or protocol.
"""

from __future__ import annotations

from typing import Final

import msgspec

MAX_LABELS: Final = 5
"""The most labels before the zone, except for zonal names."""


class NoSuchNameError(Exception):
    """Raised if the name does not exist: a name error (RFC 1035 §4.1.1)."""


class ClusterName(msgspec.Struct, frozen=True, gc=False):
    """The parts of a query name in a zone of the cluster.

    `subtree` is `svc` or `pod`. `subtree` is empty for the zone itself, and for the names `svc` and `pod` directly
    below the zone. For a zonal name, `directive` is `pin` or `prefer`, and `zone` is the topology zone.
    """

    subtree: str = ""
    namespace: str = ""
    service: str = ""
    endpoint: str = ""
    cluster: str = ""
    port: str = ""
    protocol: str = ""
    zone: str = ""
    directive: str = ""


EMPTY = ClusterName()


def parse(labels: list[str], *, multicluster: bool = False, zonal: bool = False) -> ClusterName:
    """Parses the labels left of the zone, leftmost label first. Raises NoSuchNameError."""
    if not labels or labels in (["svc"], ["pod"]):
        return EMPTY
    subtree = labels[-1]
    if subtree not in ("svc", "pod"):
        raise NoSuchNameError
    namespace = labels[-2]
    if len(labels) == 2:
        return ClusterName(subtree, namespace)
    service, left = labels[-3], labels[:-3]
    if not left:
        return ClusterName(subtree, namespace, service)
    if len(left) == 1:
        return ClusterName(subtree, namespace, service, endpoint=left[0])
    if len(left) == 2:
        first, second = left
        if multicluster and not first.startswith("_") and not second.startswith("_"):
            return ClusterName(subtree, namespace, service, endpoint=first, cluster=second)
        return ClusterName(subtree, namespace, service, port=first.removeprefix("_"), protocol=second.removeprefix("_"))
    if zonal and not multicluster and subtree == "svc" and left[-1] == "_zone" and left[-2] in ("pin", "prefer"):
        return ClusterName(subtree, namespace, service, zone=".".join(left[:-2]), directive=left[-2])
    raise NoSuchNameError
