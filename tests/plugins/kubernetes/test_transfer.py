"""Transfers of cluster zones: the records and their order (docs/behaviour/kubernetes.md#zone-transfer)."""

from __future__ import annotations

import pytest

from svcdns.cluster.changes import Gone, Kind, Put, Serials
from svcdns.cluster.objects import (
    ClusterObject,
    Endpoint,
    EndpointSlice,
    ImportedSlice,
    Namespace,
    Port,
    Service,
    ServiceImport,
)
from svcdns.plugin_api.zone_transfer import UnavailableError, ZoneOffer
from svcdns.plugins.kubernetes import Kubernetes
from svcdns.wire import names
from svcdns.wire.zone_differences import serial_of
from tests.plugins.kubernetes.fixture import HTTP, HTTP_8080, index, plugin
from tests.support import world

NS = Namespace("d")
BOTH = "kubernetes cluster.local in-addr.arpa clusterset.local {\n multicluster clusterset.local\n %s\n}"


def offered(handler: Kubernetes, zone: str = "cluster.local.", serial: int = 0) -> ZoneOffer:
    """Returns the plugin's offer of the zone."""
    offer = handler.transfer(names.from_text(zone), serial)
    assert offer is not None
    return offer


def records(offer: ZoneOffer) -> list[str]:
    """Returns the records between the two SOA records, as text."""
    assert offer.records is not None
    first, *between, last = [record for portion in offer.records for record in portion]
    assert first == last
    return world.shown(between)


def zone(
    *objects: ClusterObject,
    options: str = "",
    name: str = "cluster.local.",
    corefile: str = "",
    local: tuple[str, ...] = (),
) -> list[str]:
    """Returns the transferred records of a cluster with these objects."""
    found = index(NS, *objects)
    handler = plugin(options, found, local_addresses=local, **({"corefile": corefile} if corefile else {}))
    return records(offered(handler, name))


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param(
            [Service("d", "web", ("10.0.0.1", "fd00::1"), (Port("HTTP", "TCP", 80), Port("", "UDP", 81)))],
            [
                "web.d.svc.cluster.local. 5 IN A 10.0.0.1",
                "web.d.svc.cluster.local. 5 IN AAAA fd00::1",
                "web.d.svc.cluster.local. 5 IN SRV 0 100 80 web.d.svc.cluster.local.",
                "_http._tcp.web.d.svc.cluster.local. 5 IN SRV 0 100 80 web.d.svc.cluster.local.",
                "web.d.svc.cluster.local. 5 IN SRV 0 100 81 web.d.svc.cluster.local.",
            ],
            id="ClusterIP: an SRV record at the Service's name for every port",
        ),
        pytest.param(
            [Service("d", "web", ("10.0.0.1",))],
            [
                "web.d.svc.cluster.local. 5 IN A 10.0.0.1",
                "web.d.svc.cluster.local. 5 IN SRV 0 100 65535 web.d.svc.cluster.local.",
            ],
            id="no ports: 65535",
        ),
        pytest.param(
            [
                Service("d", "hl", ("None",), (HTTP,)),
                EndpointSlice(
                    "d",
                    "hl-1",
                    "hl",
                    (HTTP_8080, Port("", "TCP", 9)),
                    (Endpoint("10.1.0.1"), Endpoint("fd00::1", "db-0")),
                ),
                EndpointSlice("d", "hl-2", "hl", (HTTP,), (Endpoint("10.1.0.1"),)),
            ],
            [
                "hl.d.svc.cluster.local. 5 IN A 10.1.0.1",
                "10-1-0-1.hl.d.svc.cluster.local. 5 IN A 10.1.0.1",
                "_http._tcp.hl.d.svc.cluster.local. 5 IN SRV 0 50 8080 10-1-0-1.hl.d.svc.cluster.local.",
                "hl.d.svc.cluster.local. 5 IN AAAA fd00::1",
                "db-0.hl.d.svc.cluster.local. 5 IN AAAA fd00::1",
                "_http._tcp.hl.d.svc.cluster.local. 5 IN SRV 0 50 8080 db-0.hl.d.svc.cluster.local.",
                "hl.d.svc.cluster.local. 5 IN A 10.1.0.1",
                "10-1-0-1.hl.d.svc.cluster.local. 5 IN A 10.1.0.1",
                "_http._tcp.hl.d.svc.cluster.local. 5 IN SRV 0 100 80 10-1-0-1.hl.d.svc.cluster.local.",
            ],
            id="headless: slice by slice, weights within a slice, ports with names alone",
        ),
        pytest.param(
            [Service("d", "hl", ("None",)), EndpointSlice("d", "hl-1", "hl", (HTTP,), (Endpoint("db.example.com"),))],
            ["_http._tcp.hl.d.svc.cluster.local. 5 IN SRV 0 100 80 ."],
            id="headless, an FQDN: no address, and no target",
        ),
        pytest.param(
            [Service("d", "ext", external_name="www.example.com"), Service("d", "ip", external_name="192.0.2.1")],
            ["ext.d.svc.cluster.local. 5 IN CNAME www.example.com."],
            id="ExternalName, unless it is an address",
        ),
        pytest.param([Service("hidden", "web", ("10.0.0.1",))], [], id="a namespace without an object"),
    ],
)
def test_records(objects: list[ClusterObject], expected: list[str]) -> None:
    assert zone(*objects) == expected


def test_services_are_ordered_by_name() -> None:
    services = [Service(ns, name, external_name="x") for ns in ("d", "c") for name in ("b", "a")]
    assert [line.split()[0] for line in zone(Namespace("c"), *services)] == [
        "a.c.svc.cluster.local.", "a.d.svc.cluster.local.", "b.c.svc.cluster.local.", "b.d.svc.cluster.local.",
    ]  # fmt: skip


def test_hidden_namespaces_are_not_transferred() -> None:
    services = [Service(ns, "a", external_name="x") for ns in ("c", "d")]
    assert [line.split()[0] for line in zone(Namespace("c"), *services, options="namespaces c")] == [
        "a.c.svc.cluster.local."
    ]


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param(
            [],
            ["cluster.local. 5 IN NS ns.dns.cluster.local.", "ns.dns.cluster.local. 0 IN A 10.1.0.53"],
            id="outside a cluster: its own address",
        ),
        pytest.param(
            [
                Service("d", "dns", ("None",)),
                EndpointSlice("d", "dns-1", "dns", (), (Endpoint("10.1.0.53", "one"), Endpoint("10.1.0.54"))),
            ],
            [
                "cluster.local. 5 IN NS one.dns.d.svc.cluster.local.",
                "cluster.local. 5 IN NS 10-1-0-54.dns.d.svc.cluster.local.",
                "one.dns.d.svc.cluster.local. 0 IN A 10.1.0.53",
                "10-1-0-54.dns.d.svc.cluster.local. 0 IN A 10.1.0.54",
            ],
            id="its headless Service",
        ),
    ],
)
def test_name_servers(objects: list[ClusterObject], expected: list[str]) -> None:
    """Each name server has one NS record. The addresses have TTL 0."""
    assert zone(*objects, local=("10.1.0.53",))[: len(expected)] == expected


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        pytest.param("in-addr.arpa.", "web.d.svc.in-addr.arpa.", id="a reverse zone"),
        pytest.param("svc.cluster.local.", "web.d.svc.svc.cluster.local.", id="a name inside a zone"),
    ],
)
def test_any_name_of_a_zone_has_a_transfer(name: str, owner: str) -> None:
    """The copy has the records of the whole cluster below the query name."""
    handler = plugin(found=index(NS, Service("d", "web", ("10.0.0.1",))))
    offer = offered(handler, name)
    assert world.shown([offer.soa]) == [f"{name} 5 IN SOA ns.dns.{name} hostmaster.{name} 0 7200 1800 86400 5"]
    assert records(offer)[0].startswith(f"{owner} 5 IN A")


def test_other_zones_are_not_transferred() -> None:
    assert plugin().transfer(names.from_text("local."), 0) is None


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param(
            [ServiceImport("d", "web", ips=("10.9.0.1",), ports=(HTTP,))],
            [
                "web.d.svc.clusterset.local. 5 IN A 10.9.0.1",
                "web.d.svc.clusterset.local. 5 IN SRV 0 100 80 web.d.svc.clusterset.local.",
                "_http._tcp.web.d.svc.clusterset.local. 5 IN SRV 0 100 80 web.d.svc.clusterset.local.",
            ],
            id="ClusterSetIP",
        ),
        pytest.param(
            [
                ServiceImport("d", "hl", headless=True),
                ImportedSlice("d", "hl-1", "hl", (HTTP,), (Endpoint("10.2.0.1", "db-0"),), "east"),
            ],
            [
                "hl.d.svc.clusterset.local. 5 IN A 10.2.0.1",
                "db-0.hl.d.svc.clusterset.local. 5 IN A 10.2.0.1",
                "_http._tcp.hl.d.svc.clusterset.local. 5 IN SRV 0 100 80 db-0.hl.d.svc.clusterset.local.",
            ],
            id="headless: endpoint names without the cluster",
        ),
        pytest.param(
            [Service("d", "web", ("10.0.0.1",)), ServiceImport("x", "web", ips=("10.9.0.1",))],
            [],
            id="neither Services nor hidden",
        ),
    ],
)
def test_multicluster(objects: list[ClusterObject], expected: list[str]) -> None:
    """The records are in docs/behaviour/cluster-names.md#multi-cluster-zones."""
    assert zone(*objects, name="clusterset.local.", corefile=BOTH) == expected


def test_a_current_serial_gets_the_soa_alone() -> None:
    found = index(NS)
    found.apply(Serials(5, 6, 7))
    handler = plugin("", found, BOTH)
    assert offered(handler, serial=5).records is None
    assert offered(handler, serial=6).records is not None
    assert offered(handler, "clusterset.local.", 6).records is None
    assert serial_of(offered(handler, "clusterset.local.").soa) == 6


def test_a_transfer_is_a_consistent_copy() -> None:
    """A transfer does not have changes of the cluster from after its start."""
    found = index(
        NS,
        Service("d", "a", ("10.0.0.1",)),
        Service("d", "hl", ("None",)),
        slice_ := EndpointSlice("d", "s", "hl", (), ()),
    )
    found.apply(Put(EndpointSlice("d", "s", "hl", (), (Endpoint("10.1.0.1"),))))
    handler = plugin(found=found)
    expected = records(offered(handler))
    begun = offered(handler).records
    assert begun is not None
    first = [record for _ in range(5) for record in next(begun)]
    assert world.shown(first)[0].split()[6] == "0"
    found.apply(Gone(Kind.SERVICE, "d", "a"))
    found.apply(Put(slice_))
    found.apply(Serials(9, 9, 9))
    rest = [record for portion in begun for record in portion]
    assert world.shown([*first, *rest][1:-1]) == expected
    assert rest[-1] == first[0]
    assert records(offered(handler)) == []
    assert serial_of(offered(handler).soa) == 9


def test_no_transfer_before_the_first_list() -> None:
    with pytest.raises(UnavailableError, match="not been listed"):
        plugin(found=index(NS, synced=False)).transfer(names.from_text("cluster.local."), 0)
