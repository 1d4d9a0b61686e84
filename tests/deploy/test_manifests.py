"""The manifests in deploy/ agree with the code and with docs/operating.md."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import svcdns
from svcdns.cli.arguments import parse
from svcdns.cluster.watch_options import SnapshotOptions
from svcdns.control.configuration import Setup, prepare
from svcdns.corefile.env_options import variable
from svcdns.plugins import BUILT
from svcdns.sources.api.resources import watched

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kustomize"
FILES = [*sorted((FOLDER / "base").glob("[!k]*.yaml")), FOLDER / "overlays" / "new-cluster" / "corefile.yaml"]
SETTABLE = [
    option for module in BUILT.values() for option in getattr(importlib.import_module(module), "ENVIRONMENT", ())
]
KNOWN = {"SVCDNS_ACCELERATOR", "SVCDNS_COOKIE_SECRETS", "SVCDNS_STATE", *map(variable, SETTABLE)}


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """Returns the objects of the manifests by kind. Each kind has one object."""
    found = [one for path in FILES for one in yaml.safe_load_all(path.read_text())]
    assert len({item["kind"] for item in found}) == len(found)
    return {item["kind"]: item for item in found}


@pytest.fixture(scope="module")
def container(objects: dict[str, Any]) -> dict[str, Any]:
    (found,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"]}


@pytest.fixture
def setup(objects: dict[str, Any], container: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """Reads the Corefile and the environment variables of the manifests."""
    for name, value in environment(container).items():
        monkeypatch.setenv(name, value)
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 192.0.2.53\n")
    path = tmp_path / "Corefile"
    path.write_text(objects["ConfigMap"]["data"]["Corefile"].replace("/etc/resolv.conf", str(resolv)))
    return prepare(str(path), 53)


def test_svcdns_accepts_the_corefile(setup: Setup, container: dict[str, Any]) -> None:
    (view,) = setup.views.values()
    assert view.snapshot == SnapshotOptions(environment(container)["SVCDNS_SNAPSHOT"])
    pages = {page.path: page.address[1] for page in setup.pages}
    probes = [container[probe]["httpGet"] for probe in ("livenessProbe", "readinessProbe")]
    assert [(probe["path"], probe["port"]) for probe in probes] == [
        (path, pages[path]) for path in ("/health", "/ready")
    ]
    assert {port["containerPort"] for port in container["ports"]} == {
        pages["/metrics"],
        *(port for _, port, _ in setup.listen),
    }


def test_the_code_knows_every_variable(container: dict[str, Any]) -> None:
    """A misspelt variable would have no effect."""
    assert set(environment(container)) <= KNOWN
    assert parse("svcdns", container["args"]).conf == "/etc/coredns/Corefile"


def test_every_variable_is_documented() -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    assert set(re.findall(r"^\| `(SVCDNS_\w+)`", page, re.MULTILINE)) == KNOWN


def test_files_are_written_to_an_empty_dir(objects: dict[str, Any], container: dict[str, Any]) -> None:
    """The root file system is read-only."""
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert all(path.startswith(mounts["state"] + "/") for path in environment(container).values())
    assert container["securityContext"]["readOnlyRootFilesystem"]
    volumes = {volume["name"]: volume for volume in objects["Deployment"]["spec"]["template"]["spec"]["volumes"]}
    assert volumes.keys() == mounts.keys()
    assert "emptyDir" in volumes["state"]


def test_the_role_is_what_the_corefile_needs(setup: Setup, objects: dict[str, Any]) -> None:
    allowed = {
        resource + ("." + group if group else ""): rule["verbs"]
        for rule in objects["ClusterRole"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    (view,) = setup.views.values()
    assert allowed == {resource.qualified: ["list", "watch"] for resource in watched(view.options)}


def test_the_container_has_the_least_rights(objects: dict[str, Any], container: dict[str, Any]) -> None:
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    own = {key: pod["securityContext"][key] for key in ("runAsNonRoot", "runAsUser", "seccompProfile")}
    assert own == {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all("hostPath" not in volume for volume in pod["volumes"])


def test_the_objects_refer_to_each_other(objects: dict[str, Any]) -> None:
    template = objects["Deployment"]["spec"]["template"]
    assert objects["Service"]["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    account = objects["ServiceAccount"]["metadata"]
    assert template["spec"]["serviceAccountName"] == account["name"]
    (spread,) = template["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == template["metadata"]["labels"]
    (subject,) = objects["ClusterRoleBinding"]["subjects"]
    assert (subject["name"], subject["namespace"]) == (account["name"], account["namespace"])
    assert objects["ClusterRoleBinding"]["roleRef"]["name"] == objects["ClusterRole"]["metadata"]["name"]
    assert template["spec"]["volumes"][0]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]


def test_the_chart_has_the_version_of_the_program() -> None:
    chart = yaml.safe_load((ROOT / "deploy" / "helm" / "svcdns" / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == svcdns.__version__
