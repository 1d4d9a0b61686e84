"""The permissions follow from the watch options."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from svcdns.cluster.watch_options import WatchOptions
from svcdns.inspection.permissions import cluster_role, permissions, watches
from svcdns.inspection.reading import read
from svcdns.sources.api.resources import watched

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "options",
    [
        WatchOptions(),
        WatchOptions(pods=True),
        WatchOptions(endpoint_slices=False),
        WatchOptions(multicluster=True, endpoint_slices=False),
        WatchOptions(multicluster=True, pods=True, clients=True),
    ],
)
def test_they_are_those_of_the_watched_resources(options: WatchOptions) -> None:
    needed = {f"{one.resource}.{one.group}".rstrip(".") for one in permissions([options])}
    assert needed == {resource.qualified for resource in watched(options)}


def test_manifests_need_none() -> None:
    assert permissions([WatchOptions(manifests=("k8s",))]) == ()


def test_the_manifest_of_the_project_has_what_its_corefile_needs(tmp_path: Path) -> None:
    objects = list(yaml.safe_load_all((ROOT / "deploy/svcdns.yaml").read_text()))
    role = next(one for one in objects if one["kind"] == "ClusterRole")
    corefile = tmp_path / "Corefile"
    corefile.write_text(next(one for one in objects if one["kind"] == "ConfigMap")["data"]["Corefile"])
    made = yaml.safe_load(cluster_role(permissions(watches(read(str(corefile), environ={}))), role["metadata"]["name"]))
    rights = [
        {(group, resource, verb) for rule in one["rules"] for group in rule["apiGroups"]
         for resource in rule["resources"] for verb in rule["verbs"]}
        for one in (role, made)
    ]  # fmt: skip
    assert rights[0] == rights[1]
    assert rights[0]
