"""The Pods of the cluster: those written out, and those that the workloads would run.

A Deployment, ReplicaSet or StatefulSet has `replicas` Pods, a DaemonSet one, since a laptop has one node. Made-up Pods are ready. Their
names follow from the workload's name and the Pod's number, not from the template: a new image renames nothing, and lowering
`replicas` takes the last ones away.

A workload whose Pods are written out, as in a dump of a real cluster, gets none made up: their ownerReferences tell. A written-out
Pod also takes the place of a made-up one of its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from svcdns.sources.manifests.address_pool import POD_RANGE, POD_RANGE_6, Name, RangeFullError, assign, ending
from svcdns.sources.manifests.errors import ManifestError, Place
from svcdns.sources.manifests.kinds import Written
from svcdns.sources.manifests.schemas import ContainerPort, ObjectMeta, PodObject, PodSpec, PodStatus, WorkloadObject

OVER: Final = frozenset({"Succeeded", "Failed"})
"""The phases in which a Pod does not run any more."""


@dataclass(frozen=True, slots=True)
class ClusterPod:
    """A Pod as Services see it. `addresses` holds the primary one first; `phase` is empty where none is written; `order` sorts the
    Pods of a Service so that scaling a workload changes only the end."""

    namespace: str
    name: str
    labels: dict[str, str]
    addresses: tuple[str, ...] = ()
    hostname: str = ""
    subdomain: str = ""
    ports: tuple[ContainerPort, ...] = ()
    ready: bool = True
    phase: str = ""
    terminating: bool = False
    order: tuple[str, int] = ("", 0)


def pods(written: Sequence[Written], reserved: Iterable[str]) -> list[ClusterPod]:
    """All Pods, each with its addresses; made-up ones are not among `reserved`. Raises ManifestError when the range is full."""
    found = {(pod.namespace, pod.name): pod for pod in _made_up(written)}
    places: dict[Name, Place] = {(item.namespace, item.name): item.place for item in written}
    for item in written:
        if isinstance(item.body, PodObject):
            found[item.namespace, item.name] = _written_out(item, item.body)
    homeless = [name for name, pod in found.items() if not pod.addresses]
    try:
        addresses = assign(homeless, POD_RANGE, POD_RANGE_6, set(reserved))
    except RangeFullError:
        place = places.get(max(homeless), written[-1].place)
        raise ManifestError(place, f"expected no more Pods than {POD_RANGE} has addresses") from None
    return [replace(pod, addresses=addresses.get(name, pod.addresses)) for name, pod in sorted(found.items())]


def _written_out(item: Written, pod: PodObject) -> ClusterPod:
    status = pod.status
    addresses = dict.fromkeys(filter(None, (status.podIP, *(address.ip for address in status.podIPs))))
    return ClusterPod(
        namespace=item.namespace,
        name=item.name,
        labels=item.metadata.labels,
        addresses=tuple(addresses),
        hostname=pod.spec.hostname,
        subdomain=pod.spec.subdomain,
        ports=_ports(pod.spec),
        ready=_ready(status),
        phase=status.phase,
        terminating=item.metadata.deletionTimestamp is not None,
        order=(item.name, 0),
    )


def _ready(status: PodStatus) -> bool:
    """What the condition Ready says; without it a Pod is ready unless its phase is written and is not Running."""
    for condition in status.conditions:
        if condition.type == "Ready":
            return condition.status == "True"
    return status.phase in {"", "Running"}


def _ports(spec: PodSpec) -> tuple[ContainerPort, ...]:
    """The ports that a Service may name: of the containers, then of sidecars."""
    sidecars = (container for container in spec.initContainers if container.restartPolicy == "Always")
    return tuple(port for container in (*spec.containers, *sidecars) for port in container.ports)


def _made_up(written: Sequence[Written]) -> Iterator[ClusterPod]:
    workloads = {(item.kind, item.namespace, item.name): item for item in written if isinstance(item.body, WorkloadObject)}
    dependencies = _owners_of_written_pods(written, workloads)
    for key, item in workloads.items():
        if (
            key not in dependencies
            and not any(owner in workloads for owner in _controllers(item))
            and isinstance(item.body, WorkloadObject)
        ):
            yield from _PODS_OF[item.kind](item, item.body)


def _owners_of_written_pods(written: Sequence[Written], workloads: dict[tuple[str, str, str], Written]) -> set[tuple[str, str, str]]:
    """Workloads whose Pods are written out, by kind, namespace and name; a Deployment by way of its ReplicaSet too."""
    dependencies = {owner for item in written if isinstance(item.body, PodObject) for owner in _controllers(item)}
    return dependencies | {above for owner in dependencies & workloads.keys() for above in _controllers(workloads[owner])}


def _controllers(item: Written) -> Iterator[tuple[str, str, str]]:
    return ((owner.kind, item.namespace, owner.name) for owner in item.metadata.ownerReferences if owner.controller)


def _of_deployment(item: Written, workload: WorkloadObject) -> Iterator[ClusterPod]:
    template_hash = ending(f"Deployment/{item.namespace}/{item.name}", 10)
    return _numbered(item, workload, f"{item.name}-{template_hash}", workload.spec.replicas, {"pod-template-hash": template_hash})


def _of_replica_set(item: Written, workload: WorkloadObject) -> Iterator[ClusterPod]:
    return _numbered(item, workload, item.name, workload.spec.replicas, {})


def _of_daemon_set(item: Written, workload: WorkloadObject) -> Iterator[ClusterPod]:
    return _numbered(item, workload, item.name, 1, {})


def _numbered(item: Written, workload: WorkloadObject, stem: str, count: int, labels: dict[str, str]) -> Iterator[ClusterPod]:
    taken: set[str] = set()
    for number in range(count):
        end = ending(f"{item.kind}/{item.namespace}/{item.name}/{number}", 5, taken)
        taken.add(end)
        yield _pod(item, workload, f"{stem}-{end}", number, labels)


def _of_stateful_set(item: Written, workload: WorkloadObject) -> Iterator[ClusterPod]:
    spec = workload.spec
    for number in range(spec.ordinals.start, spec.ordinals.start + spec.replicas):
        name = f"{item.name}-{number}"
        labels = {"statefulset.kubernetes.io/pod-name": name, "apps.kubernetes.io/pod-index": str(number)}
        yield _pod(item, workload, name, number, labels, hostname=name, subdomain=spec.serviceName)


def _pod(
    item: Written, workload: WorkloadObject, name: str, number: int, labels: dict[str, str], *, hostname: str = "", subdomain: str = ""
) -> ClusterPod:
    metadata: ObjectMeta = workload.spec.template.metadata
    spec = workload.spec.template.spec
    return ClusterPod(
        namespace=item.namespace,
        name=name,
        labels={**metadata.labels, **labels},
        hostname=hostname or spec.hostname,
        subdomain=subdomain or spec.subdomain,
        ports=_ports(spec),
        order=(item.name, number),
    )


_PODS_OF: Final[dict[str, Callable[[Written, WorkloadObject], Iterator[ClusterPod]]]] = {
    "Deployment": _of_deployment,
    "ReplicaSet": _of_replica_set,
    "DaemonSet": _of_daemon_set,
    "StatefulSet": _of_stateful_set,
}
