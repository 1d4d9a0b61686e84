"""The Pods that manifests mean: those written out, and those that workloads would make.

A Deployment, ReplicaSet or DaemonSet makes Pods with stable made-up names, a StatefulSet its numbered ones; lowering `replicas` removes the last
ones. A written-out Pod is ready unless its status says otherwise; one that a workload makes always is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

import msgspec

from svcdns.cluster.sources.manifests.yaml_nodes import Node

WORKLOADS: Final = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet")
ZONE_LABEL: Final = "topology.kubernetes.io/zone"
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
MAX_REPLICAS: Final = 10_000


class PodInfo(msgspec.Struct):
    """A Pod as Services see it. `addresses` are its IPs, possibly empty until made up; `ports` maps port names to numbers."""

    namespace: str
    name: str
    labels: dict[str, str]
    addresses: tuple[str, ...] = ()
    ready: bool = True
    hostname: str = ""
    subdomain: str = ""
    ports: dict[str, int] = msgspec.field(default_factory=dict)
    terminating: bool = False
    finished: bool = False

    @property
    def key(self) -> str:
        """What its made-up address follows from."""
        return f"{self.namespace}/{self.name}"


def written_pod(node: Node, namespace: str, name: str) -> PodInfo:
    """A Pod manifest."""
    pod = _templated(node, namespace, name)
    status = node.get("status")
    pod.terminating = node.at("metadata", "deletionTimestamp") is not None
    if status is None:
        return pod
    phase = status.text_at("phase", default="Running")
    pod.finished = phase in ("Succeeded", "Failed", "Unknown")
    conditions = {c.text_at("type"): c.text_at("status") for c in status.items_at("conditions")}
    pod.ready = conditions.get("Ready", "True" if phase == "Running" else "False") == "True"
    addresses = [a.text_at("ip") for a in status.items_at("podIPs")] or [status.text_at("podIP")]
    pod.addresses = tuple(a for a in addresses if a)
    return pod


def workload_pods(kind: str, node: Node, namespace: str, name: str) -> Iterator[PodInfo]:
    """The Pods that a workload makes."""
    template = node.at("spec", "template")
    if template is None:
        raise node.error(f"a {kind} with spec.template")
    replicas = 1 if kind == "DaemonSet" else node.integer_at("spec", "replicas", default=1)
    if not 0 <= replicas <= MAX_REPLICAS:
        found = node.at("spec", "replicas")
        raise (found or node).error(f"0 to {MAX_REPLICAS} replicas")
    first = node.integer_at("spec", "ordinals", "start", default=0)
    for number in range(replicas):
        if kind == "StatefulSet":
            pod = _templated(template, namespace, f"{name}-{first + number}")
            pod.hostname, pod.subdomain = pod.name, node.text_at("spec", "serviceName")
        else:
            pod = _templated(template, namespace, _made_up(kind, namespace, name, number))
        yield pod


def _templated(node: Node, namespace: str, name: str) -> PodInfo:
    spec = node.get("spec")
    pod = PodInfo(namespace, name, node.labels_at("metadata", "labels"))
    if spec is not None:
        pod.hostname, pod.subdomain = spec.text_at("hostname"), spec.text_at("subdomain")
        for container in spec.items_at("containers"):
            for port in container.items_at("ports"):
                if port.get("name") is not None:
                    pod.ports.setdefault(port.text_at("name"), port.integer_at("containerPort", default=0))
    return pod


def _made_up(kind: str, namespace: str, name: str, number: int) -> str:
    """`web-5d4f8c7b9-x2k4q`: as a Deployment names its Pods, but the same every time."""
    own = _letters(f"{namespace}/{name}/{number}", 5)
    return f"{name}-{_letters(f'{namespace}/{name}', 10)}-{own}" if kind == "Deployment" else f"{name}-{own}"


def _letters(text: str, count: int) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "".join(_ALPHABET[octet % len(_ALPHABET)] for octet in digest[:count])
