"""Reading the state of a cluster once, from an API server or from manifests."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from svcdns.cluster.watch_options import WatchOptions
from svcdns.inspection import cluster_state
from svcdns.inspection.cluster_state import StateError, index_of
from svcdns.sources.manifests import ManifestError
from tests.support.api_double import ApiDouble, namespace, service


async def test_from_an_api_server() -> None:
    with ApiDouble([namespace("default"), service("web", "10.96.0.7")]) as api:
        index = await index_of(WatchOptions(endpoint=api.url))
    found = index.service("default", "web")
    assert found is not None
    assert found.cluster_ips == ("10.96.0.7",)
    assert index.synced


async def test_from_manifests(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"
    )
    index = await index_of(WatchOptions(manifests=(str(tmp_path),)))
    assert index.service("default", "web") is not None


async def test_manifests_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ManifestError):
        await index_of(WatchOptions(manifests=(str(tmp_path / "nothing.yaml"),)))


async def test_a_silent_api_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_state, "LIMIT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(StateError, match="did not list"):
            await index_of(WatchOptions(endpoint=endpoint))
