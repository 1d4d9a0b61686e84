"""Reading the cluster model from the API server and from DNS, and waiting for Services."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from svcdns.conformance import sources
from svcdns.conformance.client import NoReply, Peer, Server
from svcdns.conformance.cluster_model import Cluster, Port, Service
from svcdns.conformance.errors import ConformanceError
from svcdns.conformance.examiner import Examiner
from tests.conformance.model import ZONE, FakeApi, ModelServer
from tests.conformance.test_checks import KUBERNETES


async def examiner(model: ModelServer, cluster: Cluster | None = None) -> Examiner:
    """Returns an examiner of a model server."""
    server = Server("127.0.0.1", model.port, timeout=30, tries=1)
    await server.resolve()
    return Examiner(server, ZONE, cluster or Cluster(), random.Random(1))


async def test_discovery_by_dns() -> None:
    """DNS has kubernetes.default with its address and named port."""
    async with ModelServer(FakeApi(KUBERNETES)).serving() as model:
        found = await sources.discover(await examiner(model))
    assert found.services == (
        Service("default", "kubernetes", cluster_ips=("10.96.0.1",), ports=(Port("https", "tcp", 443),)),
    )
    assert not found.complete


async def test_reading_the_cluster_from_the_api_server() -> None:
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
    """After the time limit, the error names a Service that is not served."""
    there = Service("default", "kubernetes", cluster_ips=("10.96.0.1",))
    missing = Service("default", "absent", cluster_ips=("10.96.0.2",))
    async with ModelServer(FakeApi(KUBERNETES)).serving() as model:
        await sources.until_served(await examiner(model, Cluster((there,))), 5)
        with pytest.raises(ConformanceError, match=r"absent.default.svc.cluster.local. is not served 0.01 s after"):
            await sources.until_served(await examiner(model, Cluster((missing, there))), 0.01)
        await sources.until_served(await examiner(model, Cluster((there, missing))), 0.01)


class Starting(Server):
    """A server that replies with these response codes in order, and then repeats the last code. None means no reply."""

    def __init__(self, *rcodes: int | None) -> None:
        super().__init__("192.0.2.1", 53)
        self.rcodes, self.sent = rcodes, 0

    async def udp(self, packet: bytes, *, tries: int | None = None, wait: float | None = None) -> tuple[bytes, Peer]:
        rcode = self.rcodes[min(self.sent, len(self.rcodes) - 1)]
        self.sent += 1
        if rcode is None:
            raise NoReply("no reply over UDP")
        return packet[:2] + bytes((0x80, rcode)) + packet[4:], ("192.0.2.1", 53)


async def test_waiting_for_a_server_that_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """At first the server does not listen, or does not know the cluster."""
    monkeypatch.setattr(sources, "POLL", 0.0)
    server = Starting(None, None, 2, 2, 0)
    await sources.until_answering(server, ZONE, 60)
    assert server.sent == 5


async def test_the_end_of_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """After SERVFAIL the suite goes on waiting. Another rcode ends the wait. If no reply comes, the error names the
    server.
    """
    monkeypatch.setattr(sources, "POLL", 0.0)
    with pytest.raises(ConformanceError, match=r"192.0.2.1 port 53 does not answer within 0.01 s: no reply over UDP"):
        await sources.until_answering(Starting(None), ZONE, 0.01)
    await sources.until_answering(failing := Starting(2), ZONE, 0.01)
    assert failing.sent > 1
    await sources.until_answering(refusing := Starting(5), ZONE, 60)
    assert refusing.sent == 1


async def test_a_real_socket_is_waited_for() -> None:
    """Any reply ends the wait. If no reply comes, the error says so."""
    async with ModelServer(FakeApi()).serving() as model:
        await sources.until_answering((await examiner(model)).server, "other.zone.", 30)
        port = model.port
    gone = Server("127.0.0.1", port, timeout=0.05)
    await gone.resolve()
    with pytest.raises(ConformanceError, match=f"127.0.0.1 port {port} does not answer within 0.05 s: "):
        await sources.until_answering(gone, ZONE, 0.05)
