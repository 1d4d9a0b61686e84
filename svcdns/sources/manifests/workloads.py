"""Computes the Pods of the cluster: those in manifests, and those that workloads generate.

Rules:

1. A Deployment, ReplicaSet, ReplicationController or StatefulSet generates `replicas` Pods. A DaemonSet generates one
   Pod. A Job that has not ended generates as many Pods as it runs at the same time. Generated Pods are ready.
2. The name of a generated Pod is computed from the workload's name and the Pod's number.
3. A workload generates no Pods if Pods in manifests name it in their ownerReferences. A Pod in a manifest also replaces
   a generated one of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from svcdns.cluster.objects import ObjectName
from svcdns.sources.manifests.address_pool import POD_RANGE, POD_RANGE_6, RangeFullError, assign, suffix
from svcdns.sources.manifests.errors import FilePosition, ManifestError
from svcdns.sources.manifests.kinds import ManifestObject
from svcdns.sources.manifests.schemas import ContainerPort, ObjectMeta, PodObject, PodSpec, PodStatus, WorkloadObject


class WorkloadKey(NamedTuple):
    """Identifies a workload by its kind, namespace and name."""

    kind: str
    namespace: str
    name: str


_JOB_ENDED: Final = frozenset({"Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"})
OVER: Final = frozenset({"Succeeded", "Failed"})
"""The phases of Pods that have ended."""


@dataclass(frozen=True, slots=True)
class ClusterPod:
    """A Pod, with the fields that matter for Services.

    The first of `addresses` is the primary one. `phase` is empty if the manifest has none. If `host_network` is true,
    the Pod uses the network of its node. The Pods of a Service are sorted by `order`: scaling a workload changes only
    the end of the list.
    """

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
    host_network: bool = False
    order: tuple[str, int] = ("", 0)


def pods(written: Sequence[ManifestObject], reserved: Iterable[str]) -> list[ClusterPod]:
    """Returns all Pods. A Pod without an address gets one that is not in `reserved`.

    `written` has the objects in manifests. Raises ManifestError if the address range is full.
    """
    found = {(pod.namespace, pod.name): pod for pod in _generated(written)}
    for item in written:
        if isinstance(item.body, PodObject):
            found[item.namespace, item.name] = _from_manifest(item, item.body)
    unassigned = [name for name, pod in found.items() if not pod.addresses]
    try:
        addresses = assign(unassigned, POD_RANGE, POD_RANGE_6, set(reserved))
    except RangeFullError:
        positions: dict[ObjectName, FilePosition] = {(item.namespace, item.name): item.position for item in written}
        position = positions.get(max(unassigned), written[-1].position)
        raise ManifestError(position, f"expected no more Pods than {POD_RANGE} has addresses") from None
    return [replace(pod, addresses=addresses.get(name, pod.addresses)) for name, pod in sorted(found.items())]


def _from_manifest(item: ManifestObject, pod: PodObject) -> ClusterPod:
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
        host_network=pod.spec.hostNetwork,
        order=(item.name, 0),
    )


def _ready(status: PodStatus) -> bool:
    """Returns True if the condition Ready is true, or if it is missing and the phase is Running or missing."""
    for condition in status.conditions:
        if condition.type == "Ready":
            return condition.status == "True"
    return status.phase in {"", "Running"}


def _ports(spec: PodSpec) -> tuple[ContainerPort, ...]:
    """Returns the container ports that a Service may name: first those of the containers, then those of the
    sidecars.
    """
    sidecars = (container for container in spec.initContainers if container.restartPolicy == "Always")
    return tuple(port for container in (*spec.containers, *sidecars) for port in container.ports)


def _generated(written: Sequence[ManifestObject]) -> Iterator[ClusterPod]:
    workloads = {
        WorkloadKey(item.kind, item.namespace, item.name): item
        for item in written
        if isinstance(item.body, WorkloadObject)
    }
    with_pods = _owners_of_written_pods(written, workloads)
    for key, item in workloads.items():
        if (
            key not in with_pods
            and not any(owner in workloads for owner in _controllers(item))
            and isinstance(item.body, WorkloadObject)
        ):
            yield from _PODS_OF[item.kind](item, item.body)


def _owners_of_written_pods(
    written: Sequence[ManifestObject], workloads: dict[WorkloadKey, ManifestObject]
) -> set[WorkloadKey]:
    """Returns the workloads whose Pods are in manifests.

    A Deployment is included if its ReplicaSet owns the Pods.
    """
    owners = {owner for item in written if isinstance(item.body, PodObject) for owner in _controllers(item)}
    return owners | {above for owner in owners & workloads.keys() for above in _controllers(workloads[owner])}


def _controllers(item: ManifestObject) -> Iterator[WorkloadKey]:
    return (
        WorkloadKey(owner.kind, item.namespace, owner.name)
        for owner in item.metadata.ownerReferences
        if owner.controller
    )


def _of_deployment(item: ManifestObject, workload: WorkloadObject) -> Iterator[ClusterPod]:
    template_hash = suffix(f"Deployment/{item.namespace}/{item.name}", 10)
    return _numbered(
        item, workload, f"{item.name}-{template_hash}", workload.spec.replicas, {"pod-template-hash": template_hash}
    )


def _of_replica_set(item: ManifestObject, workload: WorkloadObject) -> Iterator[ClusterPod]:
    return _numbered(item, workload, item.name, workload.spec.replicas, {})


def _of_daemon_set(item: ManifestObject, workload: WorkloadObject) -> Iterator[ClusterPod]:
    return _numbered(item, workload, item.name, 1, {})


def _of_job(item: ManifestObject, job: WorkloadObject) -> Iterator[ClusterPod]:
    spec = job.spec
    if spec.suspend or any(one.type in _JOB_ENDED and one.status == "True" for one in job.status.conditions):
        return
    count = spec.parallelism if spec.completions is None else min(spec.parallelism, spec.completions)
    labels = {"job-name": item.name, "batch.kubernetes.io/job-name": item.name}
    if spec.completionMode != "Indexed":
        yield from _numbered(item, job, item.name, count, labels)
        return
    for index in range(count):
        name = f"{item.name}-{index}"
        end = suffix(f"{item.kind}/{item.namespace}/{item.name}/{index}", 5)
        with_index = {**labels, "batch.kubernetes.io/job-completion-index": str(index)}
        yield _pod(item, job, f"{name}-{end}", index, with_index, hostname=name)


def _numbered(
    item: ManifestObject, workload: WorkloadObject, stem: str, count: int, labels: dict[str, str]
) -> Iterator[ClusterPod]:
    taken: set[str] = set()
    for number in range(count):
        end = suffix(f"{item.kind}/{item.namespace}/{item.name}/{number}", 5, taken)
        taken.add(end)
        yield _pod(item, workload, f"{stem}-{end}", number, labels)


def _of_stateful_set(item: ManifestObject, workload: WorkloadObject) -> Iterator[ClusterPod]:
    spec = workload.spec
    for number in range(spec.ordinals.start, spec.ordinals.start + spec.replicas):
        name = f"{item.name}-{number}"
        labels = {"statefulset.kubernetes.io/pod-name": name, "apps.kubernetes.io/pod-index": str(number)}
        yield _pod(item, workload, name, number, labels, hostname=name, subdomain=spec.serviceName)


def _pod(
    item: ManifestObject,
    workload: WorkloadObject,
    name: str,
    number: int,
    labels: dict[str, str],
    *,
    hostname: str = "",
    subdomain: str = "",
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
        host_network=spec.hostNetwork,
        order=(item.name, number),
    )


_PODS_OF: Final[dict[str, Callable[[ManifestObject, WorkloadObject], Iterator[ClusterPod]]]] = {
    "Deployment": _of_deployment,
    "ReplicaSet": _of_replica_set,
    "ReplicationController": _of_replica_set,
    "DaemonSet": _of_daemon_set,
    "Job": _of_job,
    "StatefulSet": _of_stateful_set,
}
