"""Metadata of queries: the Pod that sent a query, and the parts of a cluster name (docs/plugins/kubernetes.md)."""

from __future__ import annotations

from typing import Final

from svcdns.cluster.index import Index
from svcdns.plugins.kubernetes.options import Options
from svcdns.plugins.kubernetes.qname import NoSuchNameError, parse

_OF_THE_CLIENT: Final = ("kubernetes/client-namespace", "kubernetes/client-pod-name")
_OF_THE_NAME: Final = {
    "kubernetes/port-name": "port",
    "kubernetes/protocol": "protocol",
    "kubernetes/endpoint": "endpoint",
    "kubernetes/cluster": "cluster",
    "kubernetes/zone": "zone",
    "kubernetes/service": "service",
    "kubernetes/namespace": "namespace",
    "kubernetes/kind": "subtree",
}
"""The labels of the parts of a cluster name, and the fields of ClusterName."""
PARSE_ERROR: Final = "kubernetes/parse-error"


def of_client(index: Index, options: Options, address: str, label: str) -> str:
    """Returns the namespace or the name of the Pod with the address `address`; empty if no Pod has it.

    As in CoreDNS, Pods are known only with the option `pods verified`.
    """
    if label not in _OF_THE_CLIENT or options.pods != "verified":
        return ""
    pods = index.pods_at(address)
    if not pods:
        return ""
    return pods[0].namespace if label == "kubernetes/client-namespace" else pods[0].name


def of_name(labels: list[str], label: str, *, multicluster: bool, zonal: bool) -> str:
    """Returns a part of a cluster name. `labels` are the labels of the name before the zone, in lower case."""
    try:
        name = parse(labels, multicluster=multicluster, zonal=zonal)
    except NoSuchNameError:
        return "invalid query name" if label == PARSE_ERROR else ""
    field = _OF_THE_NAME.get(label)
    return "" if field is None else str(getattr(name, field))
