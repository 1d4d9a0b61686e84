"""Metadata of queries: the Pod that sent a query, and the parts of a cluster name (docs/plugins/kubernetes.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from svcdns.cluster.index import Index
from svcdns.cluster.watch_options import ALL_LABELS
from svcdns.corefile.blocks import Directive
from svcdns.plugins.kubernetes.qname import NoSuchNameError, parse

_NAMESPACE, _POD_NAME = "kubernetes/client-namespace", "kubernetes/client-pod-name"
_POD_LABEL: Final = "kubernetes/client-label/"
_OF_THE_CLIENT: Final = "kubernetes/client-"
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


_KEY: Final = re.compile(r"""kubernetes/client-label/([\w./-]+)(?=["'`}\s)]|$)""", re.ASCII)


def client_labels(directives: Iterable[Directive]) -> tuple[str, ...]:
    """Returns the keys of the Pod labels that directives use as metadata, sorted.

    Returns ALL_LABELS in their place if a directive computes the key.
    """
    text = "\n".join(_words(directives))
    keys = _KEY.findall(text)
    return (ALL_LABELS,) if len(keys) < text.count("client-label") else tuple(sorted(set(keys)))


def _words(directives: Iterable[Directive]) -> Iterator[str]:
    for directive in directives:
        yield " ".join([word.text for word in (directive.name, *directive.arguments)])
        yield from _words(directive.body or ())


def of_client(index: Index, address: str, label: str) -> str:
    """Returns the namespace, the name or a label of the Pod with the address `address`; empty if no Pod has it."""
    if not label.startswith(_OF_THE_CLIENT):
        return ""
    pods = index.pods_at(address)
    if not pods:
        return ""
    values = {_NAMESPACE: pods[0].namespace, _POD_NAME: pods[0].name}
    values |= {_POD_LABEL + key: value for key, value in pods[0].labels}
    return values.get(label, "")


def of_name(labels: list[str], label: str, *, multicluster: bool, zonal: bool) -> str:
    """Returns a part of a cluster name. `labels` are the labels of the name before the zone, in lower case."""
    try:
        name = parse(labels, multicluster=multicluster, zonal=zonal)
    except NoSuchNameError:
        return "invalid query name" if label == PARSE_ERROR else ""
    field = _OF_THE_NAME.get(label)
    return "" if field is None else str(getattr(name, field))
