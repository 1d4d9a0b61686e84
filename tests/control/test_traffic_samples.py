"""The plugin *traffic* turns the estimates on and off."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from svcdns.cluster.changes import Kind, Put
from svcdns.cluster.objects import Namespace, Pod, Service
from svcdns.control.cluster_view import ClusterView
from svcdns.control.cluster_views import ClusterViews
from svcdns.control.configuration import Setup, prepare
from svcdns.control.traffic_samples import TrafficSamples
from svcdns.process.sample_memory import private_ring
from svcdns.telemetry.counters import Counters, samples
from svcdns.telemetry.query_samples import Ring
from svcdns.wire import names
from svcdns.wire.message import encode_query
from tests.control.test_client_names import pod
from tests.support.api_double import ApiDouble

COREFILE = """
. {{
    traffic {{
        {option}
    }}
    kubernetes cluster.local in-addr.arpa {{
        endpoint {url}
        {pods}
    }}
}}
"""


class World:
    """The estimates, a cluster view and the ring of one worker."""

    def __init__(self, folder: Path) -> None:
        self.path, self.counters, ring = folder / "Corefile", Counters(), private_ring()
        self.ring = Ring(ring)
        self.views = ClusterViews(self.counters, logging.getLogger("svcdns"), lambda _view, _difference: None)
        self.samples = TrafficSamples(self.counters, self.views, lambda: [ring])
        self.view = ClusterView(1, (Kind.SERVICE, Kind.NAMESPACE, Kind.POD), time.time)
        for one in (Namespace("d"), Service("d", "web"), Pod("d", "web-1", "10.0.0.1")):
            self.view.apply(Put(one))

    def setup(self, *, option: str = "", url: str = "http://127.0.0.1:1", pods: str = "") -> Setup:
        self.path.write_text(COREFILE.format(option=option, url=url, pods=pods))
        return prepare(str(self.path), 53)

    def query(self, name: str, client: str, rcode: int = 0) -> None:
        packet = encode_query(7, 0, names.from_text(name), 1, 1, None)
        self.ring.write(time.monotonic(), 1.0, rcode, bytes(map(int, client.split("."))), packet[2:])

    def counted(self) -> dict[tuple[str, ...], float]:
        self.samples.count()
        found = samples(self.counters._region)
        return {one.values: one.cells[0] for one in found if one.family.name == "svcdns_client_queries_total"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_pods_of_a_cluster_view(world: World) -> None:
    """Changes of Pods are noted from the first configuration on."""
    world.views.by_number[1] = world.view
    await world.samples.use(world.setup(option="pods", pods="pods verified"))
    assert world.samples.reads_views
    for difference in world.view.apply(Put(Pod("d", "web-2", "10.0.0.2"))):
        world.samples.changed(world.view, difference)
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        world.query("web.d.svc.cluster.local.", address)
    assert world.counted() == {("d",): 2.0, ("",): 1.0}
    report = await world.samples.report()
    assert report is not None
    assert [one.pod for one in report.clients] == ["web-1", "web-2", ""]


async def test_a_watch_of_pods(world: World) -> None:
    with ApiDouble([pod("job", "10.0.0.7")]) as api:
        await world.samples.use(world.setup(option="pods", url=api.url))
        assert not world.samples.reads_views
        world.query("web.d.svc.cluster.local.", "10.0.0.7")
        async with asyncio.timeout(20):
            while (report := await world.samples.report()) is None or not report.clients[0].pod:
                await asyncio.sleep(0.001)
        assert (report.clients[0].namespace, report.clients[0].pod) == ("d", "job")
        await world.samples.stop()


async def test_the_zones_are_those_of_the_corefile(world: World) -> None:
    world.views.by_number[1] = world.view
    await world.samples.use(world.setup())
    world.query("www.example.com.d.svc.cluster.local.", "10.0.0.9", rcode=3)
    assert world.counted() == {("d",): 1.0}


async def test_without_traffic_nothing_is_counted(world: World) -> None:
    setup = world.setup()
    await world.samples.use(setup)
    world.path.write_text(". {\n whoami\n}\n")
    await world.samples.use(prepare(str(world.path), 53))
    world.query("web.d.svc.cluster.local.", "10.0.0.1")
    assert world.counted() == {}
    assert await world.samples.report() is None
