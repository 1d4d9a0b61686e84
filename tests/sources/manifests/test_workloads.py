"""Pods that svcdns generates for workloads: number, names, addresses and readiness."""

from collections.abc import Callable
from textwrap import dedent

import pytest

from svcdns.cluster.changes import Kind
from svcdns.cluster.objects import EndpointSlice, Pod
from svcdns.sources.manifests.cluster import Cluster

Say = Callable[..., Cluster]


def pods(cluster: Cluster) -> dict[str, str]:
    """Returns the address of each Pod in `default`, by Pod name."""
    return {
        item.name: item.ip for item in cluster.objects.values() if isinstance(item, Pod) and item.namespace == "default"
    }


def ready(cluster: Cluster) -> list[str]:
    """Returns the Pods that are endpoints of a slice."""
    return [
        end.target for item in cluster.objects.values() if isinstance(item, EndpointSlice) for end in item.endpoints
    ]


VERSIONS = {"ReplicationController": "v1", "Job": "batch/v1"}


def workload(kind: str, *spec: str, name: str = "web") -> str:
    """Returns a workload whose Pods have the label `app: web`. `spec` has further lines."""
    lines = "".join(f"\n  {line}" for line in spec)
    return f"""
apiVersion: {VERSIONS.get(kind, "apps/v1")}
kind: {kind}
metadata: {{name: {name}}}
spec:{lines}
  template: {{metadata: {{labels: {{app: web}}}}}}
---
"""


SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: None, selector: {app: web}}\n---\n"


@pytest.mark.parametrize(
    ("kind", "spec", "count"),
    [
        pytest.param("Deployment", ["replicas: 3"], 3, id="deployment"),
        pytest.param("Deployment", [], 1, id="deployment-default"),
        pytest.param("Deployment", ["replicas: 0"], 0, id="deployment-none"),
        pytest.param("ReplicaSet", ["replicas: 2"], 2, id="replica-set"),
        pytest.param("StatefulSet", ["replicas: 2"], 2, id="stateful-set"),
        pytest.param("StatefulSet", [], 1, id="stateful-set-default"),
        pytest.param("ReplicationController", ["replicas: 2", "selector: {app: web}"], 2, id="replication-controller"),
        pytest.param("DaemonSet", [], 1, id="daemon-set"),
        pytest.param("Job", [], 1, id="job-default"),
        pytest.param("Job", ["parallelism: 3"], 3, id="job-work-queue"),
        pytest.param("Job", ["parallelism: 3", "completions: 2"], 2, id="job-few-completions"),
        pytest.param("Job", ["parallelism: 2", "completions: 5"], 2, id="job-many-completions"),
        pytest.param("Job", ["parallelism: 0"], 0, id="job-paused"),
        pytest.param("Job", ["suspend: true"], 0, id="job-suspended"),
    ],
)
def test_count(say: Say, kind: str, spec: list[str], count: int) -> None:
    """A workload has `replicas` Pods, by default one. A Job has as many Pods as run at a time."""
    assert len(pods(say(workload(kind, *spec)))) == count


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet", "StatefulSet"])
def test_scaling_keeps_names_and_addresses(say: Say, kind: str) -> None:
    many = pods(say(workload(kind, "replicas: 5")))
    few = pods(say(workload(kind, "replicas: 3")))
    assert few.items() < many.items()
    assert len(set(many.values())) == 5


def test_names(say: Say) -> None:
    """Names have the form that the controllers give them. Another Pod template changes no name."""
    before = pods(say(workload("Deployment", "replicas: 2")))
    after = pods(
        say(workload("Deployment", "replicas: 2", "paused: false").replace("labels", "annotations: {a: b}, labels"))
    )
    assert before == after
    for name in before:
        first, template_hash, end = name.split("-")
        assert (first, len(template_hash), len(end)) == ("web", 10, 5)


def test_stateful_set(say: Say) -> None:
    """Pods are numbered from `ordinals.start`. Their hostnames are below the Service in `serviceName`."""
    text = workload("StatefulSet", "replicas: 2", "serviceName: web", "ordinals: {start: 5}") + SERVICE
    cluster = say(text)
    assert list(pods(cluster)) == ["web-5", "web-6"]
    (slice_,) = (item for item in cluster.objects.values() if isinstance(item, EndpointSlice))
    assert [end.hostname for end in slice_.endpoints] == ["web-5", "web-6"]


def test_service_of_one_stateful_pod(say: Say) -> None:
    """A Service may select one Pod by the label statefulset.kubernetes.io/pod-name."""
    text = workload("StatefulSet", "replicas: 3") + SERVICE.replace(
        "app: web", "statefulset.kubernetes.io/pod-name: web-1"
    )
    assert ready(say(text)) == ["web-1"]


def test_a_pod_in_a_manifest_replaces_a_generated_pod(say: Say) -> None:
    text = (
        workload("StatefulSet", "replicas: 2")
        + "apiVersion: v1\nkind: Pod\nmetadata: {name: web-1}\nstatus: {podIP: 192.0.2.1}\n"
    )
    cluster = pods(say(text))
    assert list(cluster) == ["web-0", "web-1"]
    assert cluster["web-1"] == "192.0.2.1"


def test_dump_of_a_cluster(say: Say) -> None:
    """If the Pods of a workload are in manifests, neither the workload nor its ReplicaSet generates Pods."""
    owner = "ownerReferences: [{{apiVersion: apps/v1, kind: {}, name: {}, controller: true}}]"
    replica_set = workload("ReplicaSet", "replicas: 2", name="web-abc").replace(
        "{name: web-abc}", f"{{name: web-abc, {owner.format('Deployment', 'web')}}}"
    )
    pod = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: web-abc-x, {owner.format('ReplicaSet', 'web-abc')}}}\n"
    assert list(pods(say(workload("Deployment", "replicas: 2") + replica_set + pod))) == ["web-abc-x"]
    assert len(pods(say(workload("Deployment", "replicas: 2") + replica_set))) == 2


@pytest.mark.parametrize(
    ("status", "is_ready", "is_listed"),
    [
        pytest.param("", True, True, id="nothing-written"),
        pytest.param("{podIP: 192.0.2.1}", True, True, id="only-an-address"),
        pytest.param("{phase: Running}", True, True, id="running"),
        pytest.param("{phase: Running, conditions: [{type: Ready, status: 'True'}]}", True, True, id="ready"),
        pytest.param("{phase: Running, conditions: [{type: Ready, status: 'False'}]}", False, True, id="not-ready"),
        pytest.param("{conditions: [{type: Ready, status: Unknown}]}", False, True, id="ready-unknown"),
        pytest.param("{conditions: [{type: Initialized, status: 'False'}]}", True, True, id="another-condition"),
        pytest.param("{phase: Pending}", False, True, id="pending"),
        pytest.param("{phase: Unknown}", False, False, id="unknown"),
        pytest.param("{phase: Succeeded}", False, False, id="succeeded"),
        pytest.param("{phase: Failed, conditions: [{type: Ready, status: 'True'}]}", False, False, id="failed"),
    ],
)
def test_readiness_of_a_pod_in_a_manifest(say: Say, status: str, is_ready: bool, is_listed: bool) -> None:
    """The Pod is ready unless its status says otherwise. As with an API server, ended Pods are not listed."""
    text = SERVICE + f"apiVersion: v1\nkind: Pod\nmetadata: {{name: web, labels: {{app: web}}}}\nstatus: {status}\n"
    cluster = say(text)
    assert ready(cluster) == (["web"] if is_ready else [])
    assert list(pods(cluster)) == (["web"] if is_listed else [])


def test_pod_being_deleted(say: Say) -> None:
    """A Pod with a deletionTimestamp is not ready, and no other Pod replaces it."""
    text = (
        SERVICE
        + "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: web}, deletionTimestamp: '2025-01-01T00:00:00Z'}\n"
    )
    cluster = say(text)
    assert ready(cluster) == []
    assert pods(cluster) == {}
    assert cluster.terminating == {(Kind.POD, "default", "web")}


def test_unrelated_objects_change_no_address(say: Say) -> None:
    first = workload("Deployment", "replicas: 3")
    other = workload("StatefulSet", "replicas: 4", name="other")
    alone = pods(say(first))
    assert alone.items() < pods(say(first + other)).items()
    assert pods(say(other + first)) == pods(say(first + other))


def test_addresses_in_a_manifest_are_not_assigned(say: Say) -> None:
    (address,) = pods(say(workload("Deployment"))).values()
    text = workload("Deployment") + dedent(
        f"""
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {{name: x}}
        endpoints: [{{addresses: [{address}]}}]
        """
    )
    assert address not in pods(say(text)).values()


@pytest.mark.parametrize(("ended", "count"), [("Complete", 0), ("Failed", 0), ("Suspended", 1)])
def test_a_job_that_has_ended_has_no_pods(say: Say, ended: str, count: int) -> None:
    status = f"status: {{conditions: [{{type: {ended}, status: 'True'}}]}}\n"
    assert len(pods(say(workload("Job").replace("---\n", status)))) == count


def test_pods_of_an_indexed_job(say: Say) -> None:
    """The hostname is the Job's name with the index. The labels are those of the Job controller."""
    job = workload("Job", "completionMode: Indexed", "completions: 5", "parallelism: 2", name="work")
    job = job.replace("template: {", "template: {spec: {subdomain: web}, ")
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: None, selector: {%s}}\n"
    for selector, indexes in (
        ("app: web", [0, 1]),
        ("job-name: work", [0, 1]),
        ("batch.kubernetes.io/job-name: work", [0, 1]),
        ("batch.kubernetes.io/job-completion-index: '1'", [1]),
    ):
        cluster = say(job + service % selector)
        found = [end for item in cluster.objects.values() if isinstance(item, EndpointSlice) for end in item.endpoints]
        assert [end.hostname for end in found] == [f"work-{index}" for index in indexes]
        assert [name[:7] for name in pods(cluster)] == ["work-0-", "work-1-"]
