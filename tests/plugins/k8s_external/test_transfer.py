"""Transfers of external zones (docs/behaviour/plugins.md#k8s_external)."""

from __future__ import annotations

import pytest

from svcdns.cluster.changes import Serials
from svcdns.cluster.objects import ClusterObject, Endpoint, EndpointSlice, Namespace, Port, Service
from svcdns.plugin_api.zone_transfer import UnavailableError, ZoneOffer
from svcdns.plugins.k8s_external import External
from svcdns.wire import names
from svcdns.wire.zone_differences import serial_of
from tests.plugins.k8s_external.fixture import DNS, HTTP, OBJECTS, plugin
from tests.plugins.kubernetes.fixture import index
from tests.support import world

EXT = names.from_text("ext.test.")


def offered(handler: External, serial: int = 0) -> ZoneOffer:
    """Returns the plugin's offer of the zone."""
    offer = handler.transfer(EXT, serial)
    assert offer is not None
    return offer


def records(handler: External) -> list[str]:
    """Returns the records between the two SOA records."""
    offer = offered(handler)
    assert offer.records is not None
    first, *between, last = [record for portion in offer.records for record in portion]
    assert first == last == offer.soa
    return world.shown(between)


NS = "ext.test. 5 IN NS ns1.dns.ext.test."


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param(
            [Service("d", "web", (), (HTTP, DNS), external_ips=("192.0.2.1", "2001:db8::1"))],
            [
                "web.d.ext.test. 5 IN A 192.0.2.1",
                "web.d.ext.test. 30 IN SRV 0 100 80 web.d.ext.test.",
                "_http._tcp.web.d.ext.test. 30 IN SRV 0 100 80 web.d.ext.test.",
                "web.d.ext.test. 5 IN A 192.0.2.1",
                "_dns._udp.web.d.ext.test. 30 IN SRV 0 100 53 web.d.ext.test.",
                "web.d.ext.test. 5 IN AAAA 2001:db8::1",
                "web.d.ext.test. 5 IN AAAA 2001:db8::1",
            ],
            id="addresses for each port, SRV records once for each name",
        ),
        pytest.param(
            [Service("d", "nop", external_ips=("192.0.2.1",))],
            ["nop.d.ext.test. 5 IN A 192.0.2.1"],
            id="no ports: the address alone",
        ),
        pytest.param(
            [Service("d", "web", (), (Port("", "TCP", 80),), external_ips=("192.0.2.1",))],
            [
                "web.d.ext.test. 5 IN A 192.0.2.1",
                "web.d.ext.test. 30 IN SRV 0 100 80 web.d.ext.test.",
                "_._tcp.web.d.ext.test. 30 IN SRV 0 100 80 web.d.ext.test.",
            ],
            id="a port without a name",
        ),
        pytest.param(
            [Service("d", "lb", (), (HTTP,), external_ips=("lb.example.com",))],
            [
                *["lb.d.ext.test. 30 IN CNAME lb.example.com."] * 2,
                "lb.d.ext.test. 30 IN SRV 0 100 80 lb.example.com.",
                "_http._tcp.lb.d.ext.test. 30 IN SRV 0 100 80 com.",
            ],
            id="a hostname: two of its labels are taken for those of the port",
        ),
        pytest.param(
            [Service("d", "lb", (), (HTTP,), external_ips=("example.com",))],
            [
                *["lb.d.ext.test. 30 IN CNAME example.com."] * 2,
                "lb.d.ext.test. 30 IN SRV 0 100 80 example.com.",
                "_http._tcp.lb.d.ext.test. 30 IN SRV 0 100 80 example.com.",
            ],
            id="a hostname of two labels keeps them",
        ),
        pytest.param(
            [Service("hidden", "web", (), external_ips=("192.0.2.1",))],
            ["web.hidden.ext.test. 5 IN A 192.0.2.1"],
            id="hidden namespaces too",
        ),
        pytest.param([OBJECTS[5], OBJECTS[6]], [], id="headless without the option"),
    ],
)
def test_records(objects: list[ClusterObject], expected: list[str]) -> None:
    """Each kind of external address has its records in the transfer."""
    assert records(plugin(found=index(Namespace("d"), *objects))) == [NS, *expected]


def test_headless() -> None:
    """The transfer has records for the Service, for each endpoint and for each port. SRV records without a port in
    their name appear twice.
    """
    slices = (
        EndpointSlice("d", "hl-1", "hl", (HTTP, Port("", "TCP", 81)), (Endpoint("10.1.0.1"),)),
        EndpointSlice("d", "hl-2", "hl", (HTTP,), (Endpoint("db.example.com", "db"),)),
    )
    found = index(Namespace("d"), Service("d", "hl", ("None",)), *slices)
    targets = ["80 10-1-0-1.hl.d.ext.test.", "81 10-1-0-1.hl.d.ext.test.", "80 db.example.com."]
    one = "10-1-0-1.hl.d.ext.test."
    assert records(plugin("headless", found)) == [
        NS,
        "hl.d.ext.test. 5 IN A 10.1.0.1",
        *["hl.d.ext.test. 30 IN CNAME db.example.com."] * 2,
        *[f"hl.d.ext.test. 30 IN SRV 0 33 {target}" for target in targets] * 2,
        f"{one} 5 IN A 10.1.0.1",
        *[f"{one} 30 IN SRV 0 100 80 {one}"] * 2,
        f"{one} 5 IN A 10.1.0.1",
        *[f"{one} 30 IN SRV 0 100 81 {one}"] * 2,
        *["db.hl.d.ext.test. 30 IN CNAME db.example.com."] * 2,
        *["db.hl.d.ext.test. 30 IN SRV 0 100 80 db.example.com."] * 2,
        "_http._tcp.hl.d.ext.test. 30 IN SRV 0 50 80 10-1-0-1.hl.d.ext.test.",
        "_http._tcp.hl.d.ext.test. 30 IN SRV 0 50 80 db.hl.d.ext.test.",
    ]


def test_addresses_of_name_servers() -> None:
    """The address of a name server comes after its NS record, with the zone's TTL."""
    found = plugin("ttl 9", index(Namespace("d")), local_addresses=("10.1.0.53",))
    assert records(found) == ["ext.test. 9 IN NS ns1.dns.ext.test.", "ns1.dns.ext.test. 9 IN A 10.1.0.53"]


def test_only_the_zone_itself_is_transferred() -> None:
    """The query name of a transfer must be the zone's own name."""
    for name in ("d.ext.test.", "test.", "cluster.local."):
        assert plugin().transfer(names.from_text(name), 0) is None


@pytest.mark.parametrize(("serial", "whole"), [(0, True), (6, True), (7, False), (8, False)])
def test_a_serial_that_is_not_older_gets_only_the_soa_record(serial: int, *, whole: bool) -> None:
    found = index(*OBJECTS)
    found.apply(Serials(9, 9, 7))
    offer = offered(plugin(found=found), serial)
    assert (offer.records is not None) == whole
    assert serial_of(offer.soa) == 7


def test_no_transfer_before_the_first_list() -> None:
    """The transfer would have only a part of the records."""
    with pytest.raises(UnavailableError, match="not been listed"):
        plugin(found=index(*OBJECTS, synced=False)).transfer(EXT, 0)
