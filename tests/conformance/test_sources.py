"""A cluster that nobody describes: read from the API server, found by DNS, or waited for."""

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
    """Of a model server."""
    server = Server("127.0.0.1", model.port, timeout=5, tries=1)
    await server.resolve()
    return Examiner(server, ZONE, cluster or Cluster(), random.Random(1))


async def test_what_dns_tells() -> None:
    """kubernetes.default with its address and named port; no kube-dns here."""
    async with ModelServer(FakeApi(KUBERNETES)).serving() as model:
        found = await sources.discover(await examiner(model))
    assert found.services == (Service("default", "kubernetes", cluster_ips=("10.96.0.1",), ports=(Port("https", "tcp", 443),)),)
    assert not found.complete


async def test_what_the_api_server_tells() -> None:
    """Services and namespaces; Pods if they may be read."""

    class Forbidding(FakeApi):
        async def listed(self, path: str, kind: str) -> list[Mapping[str, Any]]:
            if kind == "Pod":
                raise ConformanceError("403")
            return await super().listed(path, kind)

    found = await sources.read_cluster(Forbidding(KUBERNETES, {"kind": "Namespace", "metadata": {"name": "default"}}))
    assert [s.name for s in found.services] == ["kubernetes"]
    assert found.namespaces == {"default"}
    assert found.complete


async def test_waiting_for_what_is_made() -> None:
    """It ends when it is served, and says what is not."""
    there = Service("default", "kubernetes", cluster_ips=("10.96.0.1",))
    absent = Service("default", "absent", cluster_ips=("10.96.0.2",))
    async with ModelServer(FakeApi(KUBERNETES)).serving() as model:
        await sources.until_served(await examiner(model, Cluster((there,))), 5)
        with pytest.raises(ConformanceError, match=r"absent.default.svc.cluster.local. is not served 0.01 s after"):
            await sources.until_served(await examiner(model, Cluster((absent, there))), 0.01)
        await sources.until_served(await examiner(model, Cluster((there, absent))), 0.01)


async def test_the_first_sign() -> None:
    """Any reply will do; none is an error with the server's name."""
    async with ModelServer(FakeApi()).serving() as model:
        await sources.first_sign((await examiner(model)).server, "other.zone.")
        port = model.port
    gone = Server("127.0.0.1", port, timeout=0.05, tries=1)
    await gone.resolve()
    with pytest.raises(ConformanceError, match=f"127.0.0.1 port {port} does not answer: no reply over UDP: 1 try of"):
        await sources.first_sign(gone, ZONE)
