"""Our manifests: what they configure is what the code knows, and the Corefile is one that we serve."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from svcdns.cli.arguments import parse
from svcdns.cluster.watch_options import SnapshotOptions
from svcdns.control.configuration import Setup, prepare
from svcdns.corefile.env_options import variable
from svcdns.plugins import BUILT
from svcdns.sources.api.resources import watched

FILE = Path(__file__).parents[2] / "deploy" / "svcdns.yaml"
SETTABLE = [option for module in BUILT.values() for option in getattr(importlib.import_module(module), "ENVIRONMENT", ())]
KNOWN = {"SVCDNS_STATE", *map(variable, SETTABLE)}


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """By kind; there is one of each."""
    found = list(yaml.safe_load_all(FILE.read_text()))
    assert len({item["kind"] for item in found}) == len(found)
    return {item["kind"]: item for item in found}


@pytest.fixture(scope="module")
def container(objects: dict[str, Any]) -> dict[str, Any]:
    """The only one."""
    (found,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(container: dict[str, Any]) -> dict[str, str]:
    """What the container is given."""
    return {entry["name"]: entry["value"] for entry in container["env"]}


@pytest.fixture
def setup(objects: dict[str, Any], container: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """What the Corefile and the environment come to."""
    for name, value in environment(container).items():
        monkeypatch.setenv(name, value)
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 192.0.2.53\n")
    path = tmp_path / "Corefile"
    path.write_text(objects["ConfigMap"]["data"]["Corefile"].replace("/etc/resolv.conf", str(resolv)))
    return prepare(str(path), 53)


def test_the_corefile_passes(setup: Setup, container: dict[str, Any]) -> None:
    """With the snapshot that the environment names; probes and ports are where the Corefile opens them."""
    (view,) = setup.views.values()
    assert view.snapshot == SnapshotOptions(environment(container)["SVCDNS_SNAPSHOT"])
    pages = {name: setup.options(name)[0].address[1] for name in ("health", "ready", "prometheus")}
    probes = [container[probe]["httpGet"] for probe in ("livenessProbe", "readinessProbe")]
    assert [(probe["path"], probe["port"]) for probe in probes] == [("/health", pages["health"]), ("/ready", pages["ready"])]
    assert {port["containerPort"] for port in container["ports"]} == {pages["prometheus"], *(port for _, port, _ in setup.listen)}


def test_every_variable_is_known(container: dict[str, Any]) -> None:
    """A misspelled one would do nothing."""
    assert set(environment(container)) <= KNOWN
    assert parse("svcdns", container["args"]).conf == "/etc/coredns/Corefile"


def test_every_variable_is_documented() -> None:
    """All that can be set by environment is in the table on operating."""
    page = (FILE.parents[1] / "docs" / "operating.md").read_text()
    assert set(re.findall(r"^\| `(SVCDNS_\w+)`", page, re.MULTILINE)) == KNOWN


def test_what_is_kept_is_on_the_volume(objects: dict[str, Any], container: dict[str, Any]) -> None:
    """The root file system is read-only."""
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert all(path.startswith(mounts["state"] + "/") for path in environment(container).values())
    assert container["securityContext"]["readOnlyRootFilesystem"]
    volumes = {volume["name"]: volume for volume in objects["Deployment"]["spec"]["template"]["spec"]["volumes"]}
    assert volumes.keys() == mounts.keys()
    assert "emptyDir" in volumes["state"]


def test_the_rights_are_enough(setup: Setup, objects: dict[str, Any]) -> None:
    """To list and watch all that the Corefile needs, and what CoreDNS has besides."""
    allowed = {
        resource + ("." + group if group else ""): set(rule["verbs"])
        for rule in objects["ClusterRole"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    (view,) = setup.views.values()
    assert all(allowed[resource.qualified] == {"list", "watch"} for resource in watched(view.options))
    assert set(allowed) == {"endpoints", "services", "pods", "namespaces", "endpointslices.discovery.k8s.io"}


def test_the_parts_find_each_other(objects: dict[str, Any]) -> None:
    """Service, Deployment, ServiceAccount and role by their names and labels."""
    template = objects["Deployment"]["spec"]["template"]
    assert objects["Service"]["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    account = objects["ServiceAccount"]["metadata"]
    assert template["spec"]["serviceAccountName"] == account["name"]
    (subject,) = objects["ClusterRoleBinding"]["subjects"]
    assert (subject["name"], subject["namespace"]) == (account["name"], account["namespace"])
    assert objects["ClusterRoleBinding"]["roleRef"]["name"] == objects["ClusterRole"]["metadata"]["name"]
    assert template["spec"]["volumes"][0]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
