"""Building a cluster from manifests: namespaces, selection by options, several files, and zones/cluster.yaml."""

import gc
import logging
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from svcdns.cluster.changes import Kind
from svcdns.cluster.objects import Endpoint, EndpointSlice, ImportedSlice, Namespace, Pod, Port, Service, ServiceImport
from svcdns.cluster.watch_options import WatchOptions
from svcdns.sources.manifests import ManifestError, ManifestsSource
from svcdns.sources.manifests.cluster import Cluster, ObjectKey

Say = Callable[..., Cluster]


def of_kind(cluster: Cluster, kind: Kind) -> set[str]:
    """Returns the names of all objects of a kind, with their namespaces."""
    return {f"{namespace}/{name}".lstrip("/") for found, namespace, name in cluster.objects if found == kind}


@pytest.mark.parametrize(
    ("text", "more"),
    [
        pytest.param("", set(), id="none"),
        pytest.param("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n", {"a"}, id="written"),
        pytest.param("apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: a}\n", {"a"}, id="of-a-service"),
        pytest.param(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: a}\n", {"a"}, id="of-a-workload"
        ),
        pytest.param(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web, namespace: a}\n", {"a"}, id="of-an-ignored-kind"
        ),
        pytest.param(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: b}\n", {"a"}, id="a-namespace-is-in-none"
        ),
    ],
)
def test_namespaces(say: Say, text: str, more: set[str]) -> None:
    """`default` and `kube-system` always exist. Another namespace exists if a manifest defines it or has an object in
    it.
    """
    assert of_kind(say(text), Kind.NAMESPACE) == {"default", "kube-system"} | more


EVERYTHING = """
apiVersion: v1
kind: Namespace
metadata: {name: a, labels: {team: x}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: a, labels: {app: web}}
spec: {selector: {app: web}}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: a}
spec: {selector: {app: db}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web, namespace: a}
spec: {template: {metadata: {labels: {app: web}}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: a}
spec: {template: {metadata: {labels: {app: db}}}}
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {name: far, namespace: a, labels: {team: x}}
spec: {type: ClusterSetIP, ips: [192.0.2.1], ports: [{port: 80, name: http, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: far
  namespace: a
  labels: {app: web, multicluster.kubernetes.io/service-name: far, multicluster.kubernetes.io/source-cluster: c1}
endpoints: [{addresses: [192.0.2.2], hostname: h}]
ports: [{port: 80}]
"""


def test_labels(say: Say) -> None:
    """The option `labels` selects Services, their slices, and Pods, but not Namespaces."""
    cluster = say(EVERYTHING, labels="app=web")
    assert of_kind(cluster, Kind.SERVICE) == {"a/web"}
    assert {item.service for item in cluster.objects.values() if isinstance(item, EndpointSlice)} == {"web", ""}
    assert of_kind(cluster, Kind.POD) == {"a/web-0"}
    assert "a" in of_kind(cluster, Kind.NAMESPACE)


@pytest.mark.parametrize(
    ("selector", "namespaces", "imports"),
    [
        pytest.param("team=x", {"a"}, {"a/far"}, id="label"),
        pytest.param(
            "kubernetes.io/metadata.name in (default)",
            {"default"},
            set(),
            id="the-name-that-every-namespace-has-as-label",
        ),
    ],
)
def test_namespace_labels(say: Say, selector: str, namespaces: set[str], imports: set[str]) -> None:
    """The option `namespace_labels` selects Namespaces and ServiceImports only."""
    cluster = say(EVERYTHING, namespace_labels=selector, multicluster=True)
    assert of_kind(cluster, Kind.NAMESPACE) == namespaces
    assert of_kind(cluster, Kind.SERVICE_IMPORT) == imports
    assert of_kind(cluster, Kind.SERVICE) == {"a/web", "a/db", "default/kubernetes", "kube-system/kube-dns"}


def test_multicluster(say: Say) -> None:
    """The option `multicluster` includes ServiceImports and their EndpointSlices."""
    cluster = say(EVERYTHING, multicluster=True)
    assert cluster.objects[ObjectKey(Kind.SERVICE_IMPORT, "a", "far")] == ServiceImport(
        "a", "far", False, ("192.0.2.1",), (Port("http", "TCP", 80),)
    )
    assert cluster.objects[ObjectKey(Kind.IMPORTED_SLICE, "a", "far")] == ImportedSlice(
        "a", "far", "far", (Port("", "TCP", 80),), (Endpoint("192.0.2.2", "h"),), "c1"
    )
    assert (Kind.ENDPOINT_SLICE, "a", "far") in cluster.objects
    assert not {Kind.SERVICE_IMPORT, Kind.IMPORTED_SLICE} & {kind for kind, _, _ in say(EVERYTHING).objects}


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        pytest.param({}, {Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NAMESPACE}, id="default"),
        pytest.param({"pods": True}, {Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NAMESPACE, Kind.POD}, id="pods"),
        pytest.param({"endpoint_slices": False}, {Kind.SERVICE, Kind.NAMESPACE}, id="no-slices"),
        pytest.param(
            {"multicluster": True},
            {Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NAMESPACE, Kind.SERVICE_IMPORT, Kind.IMPORTED_SLICE},
            id="multicluster",
        ),
    ],
)
def test_kinds(say: Say, options: dict[str, bool], kinds: set[Kind]) -> None:
    """The options determine the kinds."""
    cluster = say(EVERYTHING, **{"pods": False, **options})
    assert {kind for kind, _, _ in cluster.objects} == kinds
    source = ManifestsSource(WatchOptions(**options), log=logging.getLogger("manifests"))  # type: ignore[arg-type]
    assert set(source.kinds) == kinds


def test_clients(say: Say) -> None:
    """With `clients`, Namespaces keep their labels, and Pods their addresses and the use of the host network."""
    text = """
    apiVersion: v1
    kind: Namespace
    metadata: {name: a, labels: {team: x}}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: p, namespace: a, labels: {app: web, other: x}}
    spec: {hostNetwork: true}
    status: {podIP: 192.0.2.1, podIPs: [{ip: 192.0.2.1}, {ip: "fd00::1"}]}
    """
    pod, namespace = ObjectKey(Kind.POD, "a", "p"), ObjectKey(Kind.NAMESPACE, "", "a")
    found = say(text, clients=True).objects
    assert found[pod] == Pod("a", "p", "192.0.2.1", ("fd00::1",), host_network=True)
    assert found[namespace] == Namespace("a", labels=(("kubernetes.io/metadata.name", "a"), ("team", "x")))
    labelled = say(text, clients=True, pod_labels=("app",)).objects[pod]
    assert labelled == Pod("a", "p", "192.0.2.1", ("fd00::1",), host_network=True, labels=(("app", "web"),))
    assert say(text, pod_labels=("other",)).objects[pod] == Pod("a", "p", "192.0.2.1", labels=(("other", "x"),))
    found = say(text).objects
    assert (found[pod], found[namespace]) == (Pod("a", "p", "192.0.2.1"), Namespace("a"))


def load(*paths: Path) -> Cluster:
    """Returns the cluster of these files and folders."""
    return ManifestsSource(
        WatchOptions(manifests=tuple(map(str, paths)), pods=True), log=logging.getLogger("manifests")
    ).load()


def test_an_object_defined_twice(tmp_path: Path) -> None:
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text("---\n" + text.replace("}", ", namespace: default}"))
    with pytest.raises(ManifestError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/b.yaml:2: expected each object once, Service default/web is written in {tmp_path}/a.yaml:1 already"
        "; the option exclude leaves out a file"
    )


def test_objects_in_two_overlays(tmp_path: Path) -> None:
    """The error names two of the files, and says what to do."""
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
    for folder in ("base", "dev", "prod"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.yaml").write_text(text + "---\n" + text.replace("web", folder[:1]))
        (tmp_path / folder / "b.yaml").write_text(text.replace("web", "api"))
        (tmp_path / folder / "kustomization.yaml").write_text("resources: [a.yaml, b.yaml]\n")
    with pytest.raises(ManifestError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/dev/a.yaml:1: expected each object once, Service default/web is written in"
        f" {tmp_path}/base/a.yaml:1 already, and so are 3 more objects; leave out all overlays but one with the option"
        " exclude, or pipe `kubectl kustomize` of one overlay into `manifests -`"
    )


def test_many_objects_in_two_files(tmp_path: Path) -> None:
    text = "".join(f"---\napiVersion: v1\nkind: Service\nmetadata: {{name: web-{i}}}\n" for i in range(2))
    for name in ("a.yaml", "b.yaml", "c.yaml"):
        (tmp_path / name).write_text(text)
    with pytest.raises(ManifestError) as caught:
        load(tmp_path)
    assert str(caught.value).split("\n") == [
        f"{tmp_path}/{name}:2: expected each object once, Service default/web-0 is written in {tmp_path}/a.yaml:2 already"
        ", and so is 1 more object; the option exclude leaves out a file"
        for name in ("b.yaml", "c.yaml")
    ]


@pytest.mark.slow
def test_reading_a_large_file_leaves_no_reference_cycles(tmp_path: Path) -> None:
    """The garbage collector is paused, so cycles would never be freed."""
    services = "".join(
        f"- apiVersion: v1\n  kind: Service\n  metadata: {{name: web-{i}}}\n  spec: {{ports: [{{port: 80}}]}}\n"
        for i in range(1500)
    )
    (tmp_path / "a.yaml").write_text(f"apiVersion: v1\nkind: List\nitems:\n{services}")
    gc.unfreeze()  # an earlier test may have frozen reference cycles, which do not count here
    gc.collect()
    try:
        cluster = load(tmp_path)
        assert gc.isenabled()
        assert gc.get_freeze_count() > 1500
    finally:
        gc.unfreeze()
    assert len(cluster.objects) > 1500
    assert gc.collect() < 100


def test_files_are_one_cluster(tmp_path: Path) -> None:
    """A Service in one file selects Pods in another, whatever the order of the files is."""
    (tmp_path / "a.yaml").write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}}\n"
    )
    (tmp_path / "b.json").write_text(
        '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "web"}}}'
    )
    found = [item.service for item in load(tmp_path).objects.values() if isinstance(item, EndpointSlice)]
    assert found == ["web"]
    assert load(tmp_path / "b.json", tmp_path / "a.yaml").objects == load(tmp_path).objects


def test_the_namespace_of_objects_without_one(say: Say) -> None:
    """The option `namespace` applies only to objects without a namespace in their manifest."""
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n---\n"
    written = text.replace("web}", "web, namespace: shop}")
    assert of_kind(say(text + written, default_namespace="prod"), Kind.SERVICE) == {
        "prod/web",
        "shop/web",
        "default/kubernetes",
        "kube-system/kube-dns",
    }


def test_missing_path(tmp_path: Path) -> None:
    """A missing path is an error at the start."""
    with pytest.raises(
        ManifestError, match=r"no: No such file or directory; a file or folder of manifests was expected"
    ):
        load(tmp_path / "no")


EXAMPLE = Path(__file__).parents[3] / "zones" / "cluster.yaml"


def test_the_example_has_a_service_of_each_kind() -> None:
    """zones/cluster.yaml has every kind of name that a newcomer may want to query."""
    cluster = load(EXAMPLE)
    services = {item.name: item for item in cluster.objects.values() if isinstance(item, Service)}
    assert set(services) >= {
        "nginx",
        "nginx-nodeport",
        "my-web-service",
        "shop",
        "db",
        "workers",
        "nginx-dual",
        "kubernetes",
        "kube-dns",
    }
    assert services["shop"].external_name == "www.example.test"
    assert [port.number for port in services["my-web-service"].ports] == [80]
    assert len(services["nginx-dual"].cluster_ips) == 2
    hostnames = {
        end.hostname for item in cluster.objects.values() if isinstance(item, EndpointSlice) for end in item.endpoints
    }
    assert {"db-0", "db-1", "db-2", "alice"} <= hostnames
    assert cluster.ignored == set()


@pytest.mark.parametrize(
    ("before", "after", "service", "count"),
    [
        pytest.param("serviceName: db\n  replicas: 3", "serviceName: db\n  replicas: 2", "db", 2, id="fewer-replicas"),
        pytest.param(
            "name: bob\n  namespace: lab\n  labels:\n    app: worker", "name: bob", "workers", 1, id="pod-gone"
        ),
    ],
)
def test_edits_of_the_example(tmp_path: Path, before: str, after: str, service: str, count: int) -> None:
    """The edits are those that comments in the example propose. They change the number of endpoints."""
    text = EXAMPLE.read_text()
    assert before in text
    edited = tmp_path / "cluster.yaml"
    edited.write_text(text.replace(before, after))
    (found,) = (
        item for item in load(edited).objects.values() if isinstance(item, EndpointSlice) and item.service == service
    )
    assert len(found.endpoints) == count


def test_target_port_of_the_example() -> None:
    """The slices of my-web-service have the target port 8080."""
    (found,) = (
        item
        for item in load(EXAMPLE).objects.values()
        if isinstance(item, EndpointSlice) and item.service == "my-web-service"
    )
    assert [port.number for port in found.ports] == [8080]


def test_kubectl_get_output(say: Say) -> None:
    """The output of `kubectl get -o yaml` can be read: its List, its nulls and its many fields."""
    cluster = say(
        dedent(
            """
            apiVersion: v1
            items:
            - apiVersion: v1
              kind: Pod
              metadata:
                annotations: null
                creationTimestamp: 2025-01-01T00:00:00Z
                labels: null
                name: a
                namespace: x
              spec:
                containers: [{name: c, image: c}]
              status:
                conditions:
                - {lastProbeTime: null, status: "True", type: Ready}
                phase: Running
                podIP: 192.0.2.1
                podIPs: [{ip: 192.0.2.1}]
            kind: List
            metadata: {resourceVersion: ""}
            """
        )
    )
    assert cluster.objects[ObjectKey(Kind.POD, "x", "a")] == Pod("x", "a", "192.0.2.1")
