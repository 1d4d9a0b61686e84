"""The cluster model from the API server and from DNS, and waiting for Services."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from svcdns.conformance import sources
from svcdns.conformance.client import Server
from svcdns.conformance.cluster_model import Cluster, Port, Service
from svcdns.conformance.errors import ConformanceError
from svcdns.conformance.examiner import Examiner
from tests.conformance.model import ZONE, FakeApi, ModelServer
from tests.conformance.test_checks import KUBERNETES


async def examiner(model: ModelServer, cluster: Cluster | None = None) -> Examiner:
    """An examiner of a model server."""
    server = Server("127.0.0.1", model.port, timeout=5, tries=1)
    await server.resolve()
    return Examiner(server, ZONE, cluster or Cluster(), random.Random(1))


async def test_discovery_by_dns() -> None:
    """kubernetes.default with its address and named port; this cluster has no kube-dns."""
    async with ModelServer(FakeApi(KUBERNETES)).serving() as model:
        found = await sources.discover(await examiner(model))
    assert found.services == (
        Service("default", "kubernetes", cluster_ips=("10.96.0.1",), ports=(Port("https", "tcp", 443),)),
    )
    assert not found.complete


async def test_reading_the_cluster_from_the_api_server() -> None:
    """Services and namespaces; Pods if permitted."""

    class Forbidding(FakeApi):
        async def listed(self, path: str, kind: str) -> list[Mapping[str, Any]]:
            if kind == "Pod":
                raise ConformanceError("403")
            return await super().listed(path, kind)

    found = await sources.read_cluster(Forbidding(KUBERNETES, {"kind": "Namespace", "metadata": {"name": "default"}}))
    assert [s.name for s in found.services] == ["kubernetes"]
    assert found.namespaces == {"default"}
    assert found.complete


async def test_waiting_for_new_services() -> None:
    """It ends when the Service is served; the error names the Service."""
    there = Service("default", "kubernetes", cluster_ips=("10.96.0.1",))
    missing = Service("default", "absent", cluster_ips=("10.96.0.2",))
    async with ModelServer(FakeApi(KUBERNETES)).serving() as model:
        await sources.until_served(await examiner(model, Cluster((there,))), 5)
        with pytest.raises(ConformanceError, match=r"absent.default.svc.cluster.local. is not served 0.01 s after"):
            await sources.until_served(await examiner(model, Cluster((missing, there))), 0.01)
        await sources.until_served(await examiner(model, Cluster((there, missing))), 0.01)


async def test_reachability() -> None:
    """Any reply is enough; without one the error names the server."""
    async with ModelServer(FakeApi()).serving() as model:
        await sources.check_reachable((await examiner(model)).server, "other.zone.")
        port = model.port
    gone = Server("127.0.0.1", port, timeout=0.05, tries=1)
    await gone.resolve()
    with pytest.raises(ConformanceError, match=f"127.0.0.1 port {port} does not answer: no reply over UDP: 1 try of"):
        await sources.check_reachable(gone, ZONE)
