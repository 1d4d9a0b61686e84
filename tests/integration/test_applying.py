"""The overlays and the chart, applied to a real API server: beside CoreDNS, over it, and twice.

The API server validates the names of fields, and merges objects. It starts no Pods.
"""

from __future__ import annotations

import copy
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.support.cluster_objects import Conflict, Object, ObjectWriter
from tests.support.deployment import HELM, OVERLAYS, built, needs_helm, needs_kustomize, with_components
from tests.support.lab import Lab

pytestmark = pytest.mark.integration

ROOT: Final = Path(__file__).parents[2]
HELM_FOLDER: Final = ROOT / "deploy" / "helm"
COREDNS: Final[list[Object]] = list(
    yaml.safe_load_all((ROOT / "tests" / "deploy" / "kubeadm_coredns.yaml").read_text())
)
INSTALL: Final = ("upgrade", "--install", "coredns")
ADOPTING: Final = ("adopt-kubeadm", "eks", "kind")
IMAGE: Final = '.spec.template.spec.containers[name="coredns"].image'


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab") / "server") as running:
        yield running


@pytest.fixture
def cluster(lab: Lab) -> Iterator[ObjectWriter]:
    """A cluster without a DNS server."""
    writer = ObjectWriter(lab.api)
    yield writer
    writer.delete_all()


@pytest.fixture
def with_coredns(cluster: ObjectWriter) -> ObjectWriter:
    """A cluster with the CoreDNS of kubeadm, and an operator's changes: Corefile, replicas, and address."""
    cluster.create(COREDNS, "kubeadm")
    return cluster


def versions(cluster: ObjectWriter, objects: list[Object]) -> list[str]:
    return [cluster.read(one)["metadata"]["resourceVersion"] for one in objects]


def content(one: Object) -> Object:
    """Returns the object without the fields that the API server sets."""
    own = {"resourceVersion", "uid", "creationTimestamp", "managedFields", "generation"}
    about = {name: value for name, value in one["metadata"].items() if name not in own}
    return copy.deepcopy({**{name: value for name, value in one.items() if name != "status"}, "metadata": about})


@needs_kustomize
@pytest.mark.parametrize("name", [name for name in OVERLAYS if name not in ADOPTING])
def test_an_overlay_applied_twice_changes_nothing(name: str, cluster: ObjectWriter) -> None:
    objects = built(name)
    for one in objects:
        cluster.apply(one)
    before = versions(cluster, objects)
    for one in objects:
        cluster.apply(one)
    assert versions(cluster, objects) == before


@needs_kustomize
@pytest.mark.parametrize("name", ADOPTING)
def test_only_the_image_is_in_conflict(name: str, with_coredns: ObjectWriter) -> None:
    """The Corefile, the replicas and the address of the Service stay, after two applications too."""
    cluster = with_coredns
    before = [cluster.read(one) for one in COREDNS]
    (deployment,) = built(name)
    with pytest.raises(Conflict) as raised:
        cluster.apply(deployment)
    assert raised.value.fields == (IMAGE,)
    assert [cluster.read(one) for one in COREDNS] == before
    applied = cluster.apply(deployment, force=True)
    assert cluster.apply(deployment) == applied
    after = [cluster.read(one) for one in COREDNS]
    assert after[:-1] == before[:-1]
    assert ordered(content(after[-1])) == adopted(content(before[-1]))


@needs_kustomize
def test_the_overlay_is_applied_again_after_an_upgrade(with_coredns: ObjectWriter) -> None:
    """`kubeadm upgrade` replaces the Deployment, and keeps the number of replicas."""
    (deployment,) = built("adopt-kubeadm")
    with_coredns.apply(deployment, force=True)
    upgraded = copy.deepcopy(COREDNS[-1])
    (container,) = upgraded["spec"]["template"]["spec"]["containers"]
    container["image"] = "registry.k8s.io/coredns/coredns:v1.13.1"
    before = content(with_coredns.replace(upgraded, "kubeadm"))
    with pytest.raises(Conflict) as raised:
        with_coredns.apply(deployment)
    assert raised.value.fields == (IMAGE,)
    assert ordered(content(with_coredns.apply(deployment, force=True))) == adopted(before)


@needs_kustomize
@pytest.mark.parametrize("name", ADOPTING)
def test_a_patch_on_the_client_side_changes_the_same(name: str, with_coredns: ObjectWriter) -> None:
    """`kubectl apply` without --server-side sends a patch."""
    (deployment,) = built(name)
    before = with_coredns.read(deployment)
    after = with_coredns.merge(deployment)
    assert ordered(content(after)) == adopted(content(before))
    assert with_coredns.merge(deployment) == after


def adopted(deployment: Object) -> Object:
    """Returns the Deployment of kubeadm with the changes that an overlay makes."""
    changed = copy.deepcopy(deployment)
    pod = changed["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container["image"] = "svcdns:latest"
    container["env"] = [
        {"name": "SVCDNS_SNAPSHOT", "value": "/var/lib/svcdns/snapshot"},
        {"name": "SVCDNS_STATE", "value": "/var/lib/svcdns/state"},
    ]
    container["volumeMounts"].append({"name": "svcdns-state", "mountPath": "/var/lib/svcdns"})
    pod["volumes"].append({"name": "svcdns-state", "emptyDir": {"sizeLimit": "64Mi"}})
    return ordered(changed)


def ordered(deployment: Object) -> Object:
    """Sorts the lists that an apply and a patch extend at different ends."""
    pod = deployment["spec"]["template"]["spec"]
    for items in (pod["volumes"], *(one["volumeMounts"] for one in pod["containers"])):
        items.sort(key=lambda one: one["name"])
    return deployment


@needs_kustomize
@pytest.mark.parametrize("name", ["aks", "node-local", "side-by-side"])
def test_nothing_of_coredns_changes(name: str, with_coredns: ObjectWriter) -> None:
    before = [with_coredns.read(one) for one in COREDNS]
    for one in built(name):
        with_coredns.apply(one)
    assert [with_coredns.read(one) for one in COREDNS] == before


@needs_kustomize
@pytest.mark.parametrize("name", ["k3s", "new-cluster"])
def test_the_corefile_of_a_cluster_is_not_overwritten(name: str, with_coredns: ObjectWriter) -> None:
    """Over another CoreDNS, the API server refuses the ConfigMap, the Service and the Deployment without --force."""
    before = [with_coredns.read(one) for one in COREDNS]
    refused = {}
    for one in built(name):
        try:
            with_coredns.apply(one)
        except Conflict as conflict:
            refused[one["kind"]] = conflict.fields
    assert refused["ConfigMap"] == (".data.Corefile",)
    assert ".spec.clusterIP" in refused["Service"]
    assert IMAGE in refused["Deployment"]
    kept = {one["kind"]: one for one in before}
    for kind in refused:
        assert with_coredns.read(kept[kind]) == kept[kind]


@needs_kustomize
def test_the_addresses_of_nodes_stay_in_k3s(cluster: ObjectWriter) -> None:
    """k3s writes the key NodeHosts to the ConfigMap. The overlay does not have the key, and does not remove it."""
    objects = built("k3s")
    for one in objects:
        cluster.apply(one)
    (config,) = [one for one in objects if one["kind"] == "ConfigMap"]
    hosts = {**config, "data": {"NodeHosts": "192.0.2.1 node-1"}}
    cluster.apply(hosts, "k3s")
    cluster.apply(config)
    assert cluster.read(config)["data"] == {**config["data"], **hosts["data"]}


@needs_kustomize
@pytest.mark.parametrize("name", ["accelerator", "hpa", "network-policy", "proportional-autoscaler"])
def test_the_api_server_accepts_a_component(name: str, cluster: ObjectWriter, tmp_path: Path) -> None:
    objects = with_components("new-cluster", [name], tmp_path)
    for one in objects:
        cluster.apply(one)
    before = versions(cluster, objects)
    for one in objects:
        cluster.apply(one)
    assert versions(cluster, objects) == before


Helm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def helm(lab: Lab, tmp_path: Path) -> Helm:
    places = {f"HELM_{name}_HOME": str(tmp_path / "helm") for name in ("CACHE", "CONFIG", "DATA")}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [HELM, *words, "--namespace", "kube-system"]
        environ = {**os.environ, **places, "KUBECONFIG": str(lab.given)}
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)

    return run


def release(cluster: ObjectWriter) -> dict[tuple[str, str], str]:
    """Returns the versions of all objects in the cluster that Helm has made."""
    return {
        (one["kind"], one["metadata"]["name"]): one["metadata"]["resourceVersion"]
        for one in cluster.all()
        if "meta.helm.sh/release-name" in one["metadata"].get("annotations", {})
    }


@needs_helm
@pytest.mark.parametrize("values", ["", "autoscaler.enabled=true", "hpa.enabled=true"], ids=["plain", "cpa", "hpa"])
def test_the_chart_applied_twice_changes_nothing(values: str, cluster: ObjectWriter, helm: Helm) -> None:
    options = ["--set", values] if values else []
    options += ["--set", "svcdns.networkPolicy.enabled=true,podDisruptionBudget.maxUnavailable=1"]
    made = []
    for _ in range(2):
        done = helm(*INSTALL, str(HELM_FOLDER / "svcdns"), *options)
        assert done.returncode == 0, done.stderr
        made.append(release(cluster))
    assert len(made[0]) >= 7
    assert made[1] == made[0]


@needs_helm
def test_helm_takes_over_coredns(with_coredns: ObjectWriter, helm: Helm) -> None:
    """The command of docs/migrate.md. The Corefile, RBAC, replicas, ports and the address stay."""
    options = [*INSTALL, str(HELM_FOLDER / "svcdns"), "--values", str(HELM_FOLDER / "adopt-kubeadm.yaml")]
    options += ["--set", "replicaCount=5,service.clusterIP=10.112.0.10"]
    before = [with_coredns.read(one) for one in COREDNS]
    done = helm(*options)
    assert "cannot be imported into the current release" in done.stderr
    assert [with_coredns.read(one) for one in COREDNS] == before
    done = helm(*options, "--take-ownership")
    assert done.returncode == 0, done.stderr
    after = [with_coredns.read(one) for one in COREDNS]
    assert after[:4] == before[:4]
    (*_, old_service, old), (*_, service, deployment) = before, after
    assert content(service)["spec"] == content(old_service)["spec"]
    for field in ("replicas", "selector"):
        assert deployment["spec"][field] == old["spec"][field]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (old_container,) = old["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == old_container["ports"]
    assert container["image"].startswith("svcdns:")


@needs_helm
def test_an_upgrade_without_the_earlier_values_changes_nothing(cluster: ObjectWriter, helm: Helm) -> None:
    """Without the values, Helm would delete the Service of the cluster's DNS, and create one with another address."""
    chart = str(HELM_FOLDER / "svcdns")
    done = helm(
        *INSTALL, chart, "--values", str(HELM_FOLDER / "adopt-kubeadm.yaml"), "--set", "podDisruptionBudget=null"
    )
    assert done.returncode == 0, done.stderr
    before = release(cluster)
    accelerated = (*INSTALL, chart, "--set", "svcdns.accelerator.enabled=true")
    done = helm(*accelerated)
    assert "would delete the Service kube-dns" in done.stderr
    assert release(cluster) == before
    done = helm(*accelerated, "--reset-then-reuse-values")
    assert done.returncode == 0, done.stderr
    after = release(cluster)
    assert {name for name in before if before[name] != after.get(name)} == {("Deployment", "coredns")}
    assert after.keys() == before.keys()


@needs_helm
def test_a_release_of_coredns_chart_becomes_one_of_this_chart(
    cluster: ObjectWriter, helm: Helm, tmp_path: Path
) -> None:
    """The ports of CoreDNS's chart are two with the number 53. A merge of lists in another order would lose one."""
    chart = tmp_path / "coredns"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: coredns\nversion: 1.45.0\n")
    (chart / "templates" / "all.yaml").write_text(OFFICIAL)
    done = helm(*INSTALL, str(chart))
    assert done.returncode == 0, done.stderr
    before = {one["kind"]: one for one in cluster.all() if one["metadata"]["name"] == "coredns"}
    done = helm(*INSTALL, str(HELM_FOLDER / "svcdns"), "--set", "nameOverride=coredns,k8sAppLabelOverride=coredns")
    assert done.returncode == 0, done.stderr
    after = {one["kind"]: one for one in cluster.all() if one["metadata"]["name"] == "coredns"}
    assert after["Service"]["spec"] == before["Service"]["spec"]
    old, new = before["Deployment"]["spec"], after["Deployment"]["spec"]
    assert new["selector"] == old["selector"]
    ports = [port["containerPort"] for one in new["template"]["spec"]["containers"] for port in one["ports"]]
    assert ports == [53, 53, 9153]
    protocols = [port["protocol"] for one in new["template"]["spec"]["containers"] for port in one["ports"]]
    assert protocols == ["UDP", "TCP", "TCP"]
    assert helm("rollback", "coredns", "1").returncode == 0
    again = {one["kind"]: one for one in cluster.all() if one["metadata"]["name"] == "coredns"}
    assert again["Service"]["spec"] == before["Service"]["spec"]
    assert again["Deployment"]["spec"] == before["Deployment"]["spec"]


OFFICIAL: Final = """
apiVersion: v1
kind: Service
metadata:
  name: coredns
  namespace: kube-system
spec:
  type: ClusterIP
  selector: &labels
    app.kubernetes.io/instance: coredns
    k8s-app: coredns
    app.kubernetes.io/name: coredns
  ports:
    - {name: udp-53, port: 53, protocol: UDP, targetPort: 53}
    - {name: tcp-53, port: 53, protocol: TCP, targetPort: 53}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: coredns
  namespace: kube-system
spec:
  replicas: 1
  selector:
    matchLabels: &labels
      app.kubernetes.io/instance: coredns
      k8s-app: coredns
      app.kubernetes.io/name: coredns
  template:
    metadata:
      labels: *labels
    spec:
      dnsPolicy: Default
      serviceAccountName: coredns
      containers:
        - name: coredns
          image: coredns/coredns:1.13.1
          args: [-conf, /etc/coredns/Corefile]
          ports:
            - {name: udp-53, containerPort: 53, protocol: UDP}
            - {name: tcp-53, containerPort: 53, protocol: TCP}
            - {name: tcp-9153, containerPort: 9153, protocol: TCP}
"""
