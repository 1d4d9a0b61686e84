"""The overlays of deploy/kustomize, built by kustomize."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from svcdns.inspection.permissions import cluster_role, permissions, watches
from svcdns.inspection.problem import Severity
from svcdns.inspection.reading import read_given
from tests.support.deployment import FOLDER, OVERLAYS, built, built_in, needs_kustomize, only, with_components

ADOPTING = ("adopt-kubeadm", "eks", "kind")
BESIDE = ("aks", "side-by-side")
WHOLE = ("k3s", "new-cluster")
NODE_LOCAL = ("node-local", "node-local-removal")
PAGES = [FOLDER.parents[1] / "docs" / "accelerator.md"]
COMPONENTS = sorted(path.name for path in (FOLDER / "components").iterdir())
pytestmark = [pytest.mark.integration, needs_kustomize]


def test_every_overlay_is_of_a_known_sort() -> None:
    assert {*ADOPTING, *BESIDE, *WHOLE, *NODE_LOCAL} == set(OVERLAYS)


@pytest.mark.parametrize("name", OVERLAYS)
def test_two_builds_are_equal(name: str) -> None:
    assert built(name) == built(name)


@pytest.mark.parametrize("name", ADOPTING)
def test_an_adopted_coredns_keeps_everything_but_the_image(name: str) -> None:
    """A server-side apply of these fields touches no other field of the Deployment, and no other object."""
    (deployment,) = built(name)
    assert deployment["metadata"] == {"name": "coredns", "namespace": "kube-system"}
    assert deployment["spec"].keys() == {"template"}
    pod = deployment["spec"]["template"]["spec"]
    assert deployment["spec"]["template"].keys() == {"spec"}
    assert pod.keys() == {"containers", "volumes"}
    (container,) = pod["containers"]
    assert container.keys() <= {"name", "image", "imagePullPolicy", "env", "volumeMounts"}
    assert container["name"] == "coredns"
    assert (
        {one["name"] for one in container["volumeMounts"]}
        == {one["name"] for one in pod["volumes"]}
        == {"svcdns-state"}
    )


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_cluster_dns_fits_together(name: str) -> None:
    objects = built(name)
    template = only(objects, "Deployment")["spec"]["template"]
    assert only(objects, "Service")["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert (
        only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items()
        <= template["metadata"]["labels"].items()
    )
    config = only(objects, "ConfigMap")
    reading = read_given(config["data"]["Corefile"], "/etc/coredns/Corefile", environ={})
    assert [one for one in reading.problems if one.severity is Severity.ERROR] == []
    wanted = yaml.safe_load(cluster_role(permissions(watches(reading))))["rules"]
    assert _rights(only(objects, "ClusterRole")["rules"]) == _rights(wanted)
    volume = template["spec"]["volumes"][0]["configMap"]
    assert volume["name"] == config["metadata"]["name"]
    assert volume.get("optional") or {one["key"] for one in volume["items"]} <= config["data"].keys()


@pytest.mark.parametrize("name", BESIDE)
def test_a_server_beside_coredns_shares_no_name_and_no_label_with_it(name: str) -> None:
    objects = built(name)
    assert {(one["kind"], one["metadata"]["name"]) for one in objects} == {
        ("Deployment", "svcdns"),
        ("Service", "svcdns"),
    }
    labels = only(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels == {"k8s-app": "svcdns"}
    assert only(objects, "Service")["spec"]["selector"] == labels


def test_a_node_local_server_needs_no_rights_and_no_free_port() -> None:
    objects = built("node-local")
    assert {one["kind"] for one in objects} == {"ServiceAccount", "ConfigMap", "DaemonSet"}
    reading = read_given(only(objects, "ConfigMap")["data"]["Corefile"], "/etc/coredns/Corefile", environ={})
    assert reading.problems == []
    assert permissions(watches(reading)) == ()
    daemons = only(objects, "DaemonSet")["spec"]
    assert daemons["updateStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pod = daemons["template"]["spec"]
    assert pod["hostNetwork"]
    assert pod["automountServiceAccountToken"] is False
    assert not any("ports" in one for one in (*pod["containers"], *pod["initContainers"]))


def test_the_address_of_a_node_local_server_is_the_same_everywhere() -> None:
    """The interface, the Corefile and the probe have one address. The ports are not those of NodeLocal DNSCache."""
    objects = built("node-local")
    pod = only(objects, "DaemonSet")["spec"]["template"]["spec"]
    ((*_, address),) = [one["command"] for one in pod["initContainers"]]
    reading = read_given(only(objects, "ConfigMap")["data"]["Corefile"], "/etc/coredns/Corefile", environ={})
    assert set(reading.hosts) == {(address,)}
    (container,) = pod["containers"]
    probe = container["livenessProbe"]["httpGet"]
    every = [settings.page for plan in reading.plans for settings in plan.settings.values()]
    pages = {page.path: page.address for page in every if page is not None}
    assert pages["/health"] == (probe["host"], probe["port"]) == (address, 8090)
    assert not {port for _, port in pages.values()} & {8080, 9253, 9353}


def test_the_interface_is_added_and_removed_with_the_same_rights() -> None:
    """Only the init containers may change the network of the node, and they run no server."""
    added, removed = (only(built(name), "DaemonSet")["spec"]["template"]["spec"] for name in NODE_LOCAL)
    assert [one["command"][:3] for pod in (added, removed) for one in pod["initContainers"]] == [
        ["/coredns", "interface", "add"],
        ["/coredns", "interface", "remove"],
    ]
    for pod in (added, removed):
        (container,) = pod["initContainers"]
        assert container["securityContext"]["capabilities"] == {
            "add": ["NET_ADMIN", "NET_BIND_SERVICE"],
            "drop": ["ALL"],
        }
        assert all("NET_ADMIN" not in str(one["securityContext"]) for one in pod["containers"])


@pytest.mark.parametrize("name", [*BESIDE, *NODE_LOCAL])
def test_kubeadm_finds_no_second_dns_server(name: str) -> None:
    """kubeadm refuses an upgrade if two Deployments have its label (docs/migrate.md)."""
    assert all(one["metadata"].get("labels") != {"k8s-app": "kube-dns"} for one in built(name))


@pytest.mark.parametrize("overlay", [*ADOPTING, *WHOLE])
@pytest.mark.parametrize("name", COMPONENTS)
def test_components_add_to_a_cluster(name: str, overlay: str, tmp_path: Path) -> None:
    before, after = built(overlay), with_components(overlay, [name], tmp_path)
    assert len(after) == len(before) + {"accelerator": 0, "proportional-autoscaler": 6}.get(name, 1)
    if name == "accelerator":
        _check_accelerator(only(before, "Deployment"), only(after, "Deployment"))
    if name == "hpa":
        assert "replicas" not in only(after, "Deployment")["spec"]


@pytest.mark.parametrize("overlay", [*ADOPTING, *BESIDE, *WHOLE])
def test_the_accelerator_can_be_added_to_each_overlay_with_a_deployment(overlay: str, tmp_path: Path) -> None:
    """In the overlays beside CoreDNS, the Deployment and its container have the name `svcdns`."""
    _check_accelerator(
        only(built(overlay), "Deployment"), only(with_components(overlay, ["accelerator"], tmp_path), "Deployment")
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_image_of_the_pages_reaches_each_container(page: Path, tmp_path: Path) -> None:
    """An operator copies each kustomization of a page to a folder of `overlays`."""
    examples = re.findall(r"^```yaml\n(resources:.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert examples
    shutil.copytree(FOLDER, tmp_path / "kustomize")
    for number, example in enumerate(examples):
        own = tmp_path / "kustomize" / "overlays" / f"own-{number}"
        own.mkdir()
        (own / "kustomization.yaml").write_text(example)
        pod = only(built_in(own), "Deployment")["spec"]["template"]["spec"]
        images = {one["image"] for one in (*pod["containers"], *pod["initContainers"])}
        assert images == {"registry.example.org/svcdns:v1.12.1"}


def test_the_proportional_autoscaler_sets_the_replicas(tmp_path: Path) -> None:
    """It may change the number of replicas of this Deployment only. Its ConfigMap is not among the objects."""
    objects = with_components("new-cluster", ["proportional-autoscaler"], tmp_path)
    scaled, scaler = (only(objects, "Deployment", name) for name in ("coredns", "coredns-autoscaler"))
    assert "replicas" not in scaled["spec"]
    assert scaler["metadata"]["labels"] == {"k8s-app": "coredns-autoscaler"}
    assert [one["metadata"]["name"] for one in objects if one["kind"] == "ConfigMap"] == ["coredns"]
    pod = scaler["spec"]["template"]["spec"]
    flags = dict(word.split("=", 1) for word in pod["containers"][0]["command"][1:])
    assert flags["--target"] == f"Deployment/{scaled['metadata']['name']}"
    assert json.loads(flags["--default-params"])["linear"]["min"] == 2
    role, cluster_wide = only(objects, "Role"), only(objects, "ClusterRole", "autoscaler")
    assert _rights(cluster_wide["rules"]) == {("", "nodes", "list"), ("", "nodes", "watch")}
    assert role["rules"][0]["resourceNames"] == [scaled["metadata"]["name"]]
    assert _rights(role["rules"]) == {
        ("apps", "deployments/scale", "get"),
        ("apps", "deployments/scale", "update"),
        ("", "configmaps", "get"),
        ("", "configmaps", "create"),
    }
    for kind, account in (("RoleBinding", role), ("ClusterRoleBinding", cluster_wide)):
        binding = only(objects, kind, "autoscaler")
        assert binding["roleRef"]["name"] == account["metadata"]["name"]
        assert [one["name"] for one in binding["subjects"]] == [pod["serviceAccountName"]]


def _check_accelerator(before: dict[str, Any], after: dict[str, Any]) -> None:
    """The Deployment gets a sidecar of the same image, and a variable that names its socket. Nothing else changes."""
    pod = after["spec"]["template"]["spec"]
    (sidecar,) = pod.pop("initContainers")
    (container,) = pod["containers"]
    assert container["env"].pop(0) == {"name": "SVCDNS_ACCELERATOR", "value": "@svcdns-accelerator"}
    assert after == before
    assert sidecar["image"] == container["image"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["command"] == ["svcdns", "accelerate", "--stay", "--uid", "65532"]
    assert sidecar["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"add": ["BPF", "NET_ADMIN", "NET_BIND_SERVICE"], "drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": False,
        "runAsUser": 0,
        "runAsGroup": 0,
    }
    assert sidecar["resources"].keys() == {"limits", "requests"}


def _rights(rules: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return set(_each(rules))


def _each(rules: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield group, resource, verb
