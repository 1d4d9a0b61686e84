"""The permissions that a Corefile needs in the cluster, as a ClusterRole (Kubernetes RBAC)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec
import yaml

from svcdns.cluster.watch_options import WatchOptions
from svcdns.inspection.reading import Reading

VERBS: Final = ("list", "watch")


class Permission(NamedTuple):
    """The permission to list and watch one resource of an API group. `group` is empty for the core group."""

    group: str
    resource: str


def permissions(watches: Iterable[WatchOptions]) -> tuple[Permission, ...]:
    """Returns the permissions for the resources that these watch options need, in the order of the manifests."""
    out: dict[Permission, None] = {}
    for watch in watches:
        if watch.manifests:
            continue
        out |= dict.fromkeys((Permission("", "services"), Permission("", "namespaces")))
        if watch.pods:
            out[Permission("", "pods")] = None
        if watch.endpoint_slices:
            out[Permission("discovery.k8s.io", "endpointslices")] = None
        if watch.multicluster:
            out[Permission("multicluster.x-k8s.io", "serviceimports")] = None
            out[Permission("discovery.k8s.io", "endpointslices")] = None
    return tuple(out)


def watches(reading: Reading) -> tuple[WatchOptions, ...]:
    """Returns the watch options of all blocks. Includes Pods if *traffic* names clients."""
    every = [settings for plan in reading.plans for settings in plan.settings.values()]
    pods = any(settings.names_pods for settings in every)
    return tuple(
        msgspec.structs.replace(settings.watch, pods=True) if pods else settings.watch
        for settings in every
        if settings.watch is not None
    )


def cluster_role(needed: Iterable[Permission], name: str = "system:coredns") -> str:
    """Returns the ClusterRole with these permissions as YAML."""
    groups: dict[str, list[str]] = {}
    for permission in needed:
        groups.setdefault(permission.group, []).append(permission.resource)
    rules: list[dict[str, Any]] = [
        {"apiGroups": [group], "resources": resources, "verbs": list(VERBS)} for group, resources in groups.items()
    ]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    }
    return yaml.safe_dump(role, sort_keys=False)
