"""Estimates from samples of queries."""

from __future__ import annotations

import json
import random
from ipaddress import ip_address
from pathlib import Path

import pytest

from svcdns.cluster.objects import Pod
from svcdns.control.client_names import ClientNames
from svcdns.control.traffic import MAX_NAMESPACES, OTHER, Estimate, Traffic, dns_config, ndots_for, schema
from svcdns.process.sample_memory import private_ring
from svcdns.telemetry.counters import Counters, samples
from svcdns.telemetry.query_samples import CAPACITY, UNKNOWN, Ring
from svcdns.wire import names
from svcdns.wire.codes import Rcode
from svcdns.wire.message import encode_query
from tests.support.world import Clock

ROOT = Path(__file__).parents[2]
SERVICES = {("shop", "web"), ("shop", "db")}
NAMESPACES = {"shop", "build", "kube-system"}


class World:
    """Two workers' rings, and the estimates from them."""

    def __init__(self) -> None:
        self.clock, self.counters, self.clients = Clock(), Counters(), ClientNames()
        self.clock.now = 1000.0
        self.rings = [Ring(private_ring()), Ring(private_ring())]
        self.traffic = Traffic(self.counters, lambda: self.rings, self.clients, self.exists, self.clock)
        self.traffic.zones = (names.from_text("cluster.local."),)

    def exists(self, namespace: str, service: str) -> bool:
        return (namespace, service) in SERVICES if service else namespace in NAMESPACES

    def query(
        self,
        name: str,
        client: str = "10.0.0.1",
        rcode: int = Rcode.NOERROR,
        *,
        weight: float = 1.0,
        worker: int = 0,
        rtype: int = 1,
    ) -> None:
        packet = encode_query(7, 0, names.from_text(name), rtype, 1, None)
        address = bytes(map(int, client.split(".")))
        self.rings[worker].write(self.clock.now, weight, rcode, address, packet[2:])

    def counted(self) -> dict[tuple[str, ...], float]:
        """Returns the metrics by the short name and the namespace."""
        self.traffic.count()
        return {
            (one.family.name.removeprefix("svcdns_client_"), *one.values): one.cells[0]
            for one in samples(self.counters._region)
        }


@pytest.fixture
def world() -> World:
    return World()


def walk(world: World, name: str, namespace: str, client: str) -> None:
    """Sends what a resolver with `ndots:5` sends for an outside name."""
    for domain in (f"{namespace}.svc.cluster.local.", "svc.cluster.local.", "cluster.local."):
        world.query(f"{name}.{domain}", client, Rcode.NXDOMAIN)
    world.query(f"{name}.", client)


@pytest.mark.parametrize(
    ("name", "outside", "namespace"),
    [
        ("www.example.com.shop.svc.cluster.local.", "www.example.com.", "shop"),
        ("example.com.svc.cluster.local.", "example.com.", ""),
        ("example.com.cluster.local.", "example.com.", ""),
        ("web.build.shop.svc.cluster.local.", None, ""),
        ("pod.web.shop.svc.cluster.local.", None, ""),
        ("pod.cache.shop.svc.cluster.local.", "pod.cache.", "shop"),
        ("web.shop.svc.shop.svc.cluster.local.", None, ""),
        ("missing.shop.svc.cluster.local.", None, ""),
        ("missing.svc.cluster.local.", None, ""),
        ("missing.cluster.local.", None, ""),
        ("10.0.0.1.shop.svc.cluster.local.", None, ""),
        ("cluster.local.", None, ""),
        ("svc.cluster.local.", None, ""),
        ("www.example.com.", None, ""),
        ("www.example.com.shop.svc.xcluster.local.", None, ""),
    ],
)
def test_expansions(world: World, name: str, outside: str | None, namespace: str) -> None:
    found = world.traffic.expansion(names.from_text(name))
    assert (None if found is None else names.to_text(names.from_labels(found.outside))) == outside
    assert ("" if found is None else found.namespace) == namespace


def test_metrics_have_totals_by_namespace(world: World) -> None:
    world.clients.put(Pod("build", "job", "10.0.0.9"))
    walk(world, "www.example.com", "shop", "10.0.0.1")
    world.query("web.shop.svc.cluster.local.", "10.0.0.2", weight=5.0, worker=1)
    world.query("gone.example.com.", "10.0.0.9", Rcode.NXDOMAIN, weight=2.0)
    expected = {
        ("queries_total", "shop"): 4.0, ("queries_total", ""): 5.0, ("queries_total", "build"): 2.0,
        ("nxdomain_total", "shop"): 3.0, ("nxdomain_total", "build"): 2.0,
        ("search_path_misses_total", "shop"): 3.0,
    }  # fmt: skip
    assert world.counted() == expected
    assert world.counted() == expected
    walk(world, "www.example.com", "shop", "10.0.0.1")
    assert world.counted()["queries_total", "shop"] == 8.0


def test_a_successor_of_control_counts_no_sample_twice(world: World) -> None:
    walk(world, "www.example.com", "shop", "10.0.0.1")
    assert world.counted()["queries_total", "shop"] == 4.0
    world.traffic = Traffic(world.counters, lambda: world.rings, world.clients, world.exists, world.clock)
    assert world.counted()["queries_total", "shop"] == 4.0


def test_the_number_of_series_is_bounded(world: World) -> None:
    for number in range(MAX_NAMESPACES + 50):
        world.clients.put(Pod(f"n{number}", "pod", f"10.1.{number >> 8}.{number & 255}"))
        world.query("web.shop.svc.cluster.local.", f"10.1.{number >> 8}.{number & 255}")
    found = world.counted()
    assert len(found) == MAX_NAMESPACES + 1
    assert found["queries_total", OTHER] == 50.0


async def test_a_report(world: World) -> None:
    world.clients.put(Pod("shop", "web-1", "10.0.0.1"))
    world.clock.now -= 61.0
    world.query("too.old.")
    world.clock.now += 61.0
    for _ in range(3):
        walk(world, "WWW.example.com", "shop", "10.0.0.1")
        walk(world, "api.eu.example.net", "build", "10.0.0.2")
    world.query("web.shop.svc.cluster.local.", weight=100.0, worker=1, rtype=28)
    world.query("web.shop.svc.cluster.local.", weight=100.0, worker=1, rcode=UNKNOWN)
    report = await world.traffic.report(top=3)
    assert (report.seconds, report.samples, report.queries) == (60.0, 26, Estimate(224.0, 281.4))
    assert report.rcodes == (
        ("NOERROR", Estimate(106.0, 199.0)), ("unknown", Estimate(100.0, 199.0)), ("NXDOMAIN", Estimate(18.0, 0.0)),
    )  # fmt: skip
    assert [(one.name, one.rtypes) for one in report.names[:1]] == [("web.shop.svc.cluster.local.", ("A", "AAAA"))]
    assert len(report.names) == len(report.nonexistent) == 3
    assert all(one.name.endswith("cluster.local.") for one in report.nonexistent)
    assert [(one.address, one.namespace, one.pod) for one in report.clients] == [
        ("10.0.0.1", "shop", "web-1"), ("10.0.0.2", "build", ""),
    ]  # fmt: skip
    shop, build = report.namespaces
    assert (shop.namespace, shop.search_path_misses, shop.ndots) == ("shop", Estimate(9.0, 0.0), 2)
    assert [(one.name, one.estimate.queries) for one in build.outside] == [("api.eu.example.net.", 9.0)]
    assert (build.namespace, build.ndots, build.dns_config) == ("build", 3, dns_config(3))


@pytest.mark.parametrize("client", ["0.0.0.0", "::"])
async def test_queries_whose_clients_are_not_seen(world: World, client: str) -> None:
    """The accelerator sees no clients. The namespace in a search path is known nevertheless."""
    packet = encode_query(7, 0, names.from_text("a.example.com.shop.svc.cluster.local."), 1, 1, None)
    address = ip_address(client).packed
    world.rings[0].write(world.clock.now, 5.0, Rcode.NXDOMAIN, address, packet[2:])
    world.query("web.shop.svc.cluster.local.", "10.0.0.1")
    report = await world.traffic.report()
    assert [one.address for one in report.clients] == ["10.0.0.1"]
    assert (report.queries.queries, report.unseen_clients.queries) == (6.0, 5.0)
    assert [(one.namespace, one.queries.queries) for one in report.namespaces] == [("shop", 5.0), ("", 1.0)]
    assert world.counted()["queries_total", "shop"] == 5.0


async def test_a_burst_that_fills_the_ring(world: World) -> None:
    """The ring covers the last second. The estimates are those of a minute with the same rate."""
    for number in range(CAPACITY + 5):
        world.clock.now = 1000.0 + number * 2 / (CAPACITY + 5)
        world.query("web.shop.svc.cluster.local.")
    report = await world.traffic.report()
    assert report.queries.queries == pytest.approx(CAPACITY / 2 * 60, rel=0.01)


async def test_errors_bound_the_difference(world: World) -> None:
    """19 of 20 estimates are within their error. Queries are sampled with the probability 1 / 40."""
    draw, asked, count = random.Random(7), 1200, 60
    for number in range(count):
        for _ in range(sum(draw.random() < 1 / 40 for _ in range(asked))):
            world.query(f"n{number}.b.", weight=40.0)
    found = (await world.traffic.report(top=count)).names
    assert len(found) == count
    assert sum(abs(one.estimate.queries - asked) <= one.estimate.error for one in found) >= 0.9 * count
    assert all(0.2 * asked < one.estimate.error < 0.6 * asked for one in found)


def test_a_name_that_does_not_fit(world: World) -> None:
    world.query(".".join(["a" * 60] * 4) + ".", rcode=Rcode.NXDOMAIN)
    assert world.counted() == {("queries_total", ""): 1.0, ("nxdomain_total", ""): 1.0}


def test_ndots() -> None:
    """The text is pasted into a Pod template."""
    assert ndots_for([names.from_text("a.b.c."), names.from_text("x.y.")]) == 1
    assert dns_config(1) == 'dnsConfig:\n  options:\n    - name: ndots\n      value: "1"\n'


def test_the_schema_in_the_documentation() -> None:
    assert json.loads((ROOT / "docs/schemas/traffic.json").read_text()) == schema()
