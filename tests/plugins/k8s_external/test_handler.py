"""The plugin *k8s_external*: external addresses of Services (docs/behaviour/plugins.md#k8s_external)."""

from __future__ import annotations

import pytest

from svcdns.cluster.changes import Confirmed, Put, Serials
from svcdns.cluster.objects import ClusterObject, Endpoint, EndpointSlice, Namespace, Service
from svcdns.plugin_api.query import Answer
from svcdns.plugin_api.reply import NOT_REUSABLE, UNTIL_CHANGED, Reply
from svcdns.wire import names
from svcdns.wire.codes import AA, RD, TC, ExtendedError
from tests.plugins.k8s_external.fixture import DNS, HTTP, OBJECTS, ask, plugin
from tests.plugins.kubernetes.fixture import index
from tests.support import world

SOA = "ext.test. 5 IN SOA ns1.dns.ext.test. hostmaster.dns.ext.test. SERIAL 7200 1800 86400 5"
NODATA = ["NOERROR", "auth " + SOA]
NXDOMAIN = ["NXDOMAIN", "auth " + SOA]
ADDRESSES = ["add web.d.ext.test. 5 IN A 192.0.2.1", "add web.d.ext.test. 5 IN AAAA 2001:db8::1"]


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        pytest.param("ext.test.", "SOA", ["NOERROR", SOA], id="SOA"),
        pytest.param("EXT.test.", "SOA", ["NOERROR", SOA], id="SOA: the zone in lower case"),
        pytest.param("ext.test.", "NS", ["NOERROR", "ext.test. 5 IN NS ns1.dns.ext.test."], id="NS"),
        pytest.param("ext.test.", "A", NODATA, id="the zone itself"),
        pytest.param("dns.ext.test.", "A", NODATA, id="apex"),
        pytest.param("ns1.dns.ext.test.", "A", NODATA, id="the name server, without addresses"),
        pytest.param("ns2.dns.ext.test.", "A", NXDOMAIN, id="another below apex"),
        pytest.param("a.ns1.dns.ext.test.", "A", NXDOMAIN, id="deep below apex"),
        pytest.param("d.ext.test.", "A", NODATA, id="namespace"),
        pytest.param("x.ext.test.", "A", NXDOMAIN, id="no namespace"),
        pytest.param("web.hidden.ext.test.", "A", NXDOMAIN, id="a namespace without an object"),
        pytest.param(
            "Web.d.EXT.test.", "A", ["NOERROR", "Web.d.EXT.test. 5 IN A 192.0.2.1"], id="A, spelled as in the query"
        ),
        pytest.param("web.d.ext.test.", "AAAA", ["NOERROR", "web.d.ext.test. 5 IN AAAA 2001:db8::1"], id="AAAA"),
        pytest.param("web.d.ext.test.", "TXT", NODATA, id="other type"),
        pytest.param("web.d.ext.test.", "PTR", NODATA, id="PTR of a forward name"),
        pytest.param("plain.d.ext.test.", "A", NXDOMAIN, id="no external address"),
        pytest.param("hl.d.ext.test.", "A", NXDOMAIN, id="headless"),
        pytest.param(
            "x.web.d.ext.test.", "A", ["NOERROR", "x.web.d.ext.test. 5 IN A 192.0.2.1"], id="one more label is ignored"
        ),
        pytest.param(
            "_http._tcp.web.d.ext.test.",
            "A",
            ["NOERROR", "_http._tcp.web.d.ext.test. 5 IN A 192.0.2.1"],
            id="A of a port",
        ),
        pytest.param("_x._tcp.web.d.ext.test.", "SRV", NXDOMAIN, id="no such port"),
        pytest.param("a.b.c.web.d.ext.test.", "A", NXDOMAIN, id="too deep"),
        pytest.param(
            "_HTTP._tcp.web.d.ext.test.",
            "SRV",
            ["NOERROR", "_HTTP._tcp.web.d.ext.test. 30 IN SRV 0 50 80 web.d.ext.test.", *ADDRESSES],
            id="SRV: TTL of kubernetes, weight over all addresses",
        ),
        pytest.param(
            "web.d.ext.test.",
            "SRV",
            [
                "NOERROR",
                "web.d.ext.test. 30 IN SRV 0 25 80 web.d.ext.test.",
                "web.d.ext.test. 30 IN SRV 0 25 53 web.d.ext.test.",
                *ADDRESSES,
            ],
            id="SRV of all ports",
        ),
        pytest.param("nop.d.ext.test.", "SRV", NODATA, id="SRV without ports"),
        pytest.param(
            "1.2.0.192.in-addr.arpa.", "PTR", ["NOERROR", "1.2.0.192.in-addr.arpa. 5 IN PTR web.d.ext.test."], id="PTR"
        ),
        pytest.param(
            "9.2.0.192.in-addr.arpa.",
            "PTR",
            ["NOERROR", "9.2.0.192.in-addr.arpa. 5 IN PTR web.hidden.ext.test."],
            id="PTR, hidden",
        ),
    ],
)
def test_answers(name: str, rtype: str, expected: list[str]) -> None:
    """Each reply has AA set, and stays valid until the cluster changes."""
    reply = ask(plugin(), name, rtype)
    assert world.summary(reply) == expected
    assert reply.flags == AA | RD
    assert reply.lifetime == UNTIL_CHANGED


@pytest.mark.parametrize(
    ("name", "rtype"),
    [
        pytest.param("8.2.0.192.in-addr.arpa.", "PTR", id="no address"),
        pytest.param("1.2.0.192.in-addr.arpa.", "A", id="type"),
    ],
)
def test_nonexistent_reverse_names(name: str, rtype: str) -> None:
    """The reply is NXDOMAIN with the SOA record of the reverse zone."""
    soa = "in-addr.arpa. 5 IN SOA ns1.dns.in-addr.arpa. hostmaster.dns.in-addr.arpa. SERIAL 7200 1800 86400 5"
    assert world.summary(ask(plugin(), name, rtype)) == ["NXDOMAIN", "auth " + soa]


def test_reverse_names_in_hidden_namespaces() -> None:
    name = "9.2.0.192.in-addr.arpa."
    assert world.summary(ask(plugin(kubernetes="namespaces d"), name, "PTR"))[0] == "NXDOMAIN"
    assert world.summary(ask(plugin(kubernetes="namespaces d"), "1.2.0.192.in-addr.arpa.", "PTR"))[0] == "NOERROR"


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        pytest.param("hl.d.ext.test.", "A", ["NOERROR", "hl.d.ext.test. 5 IN A 10.1.0.1"], id="headless"),
        pytest.param(
            "db-0.hl.d.ext.test.", "AAAA", ["NOERROR", "db-0.hl.d.ext.test. 5 IN AAAA fd00::1"], id="endpoint"
        ),
        pytest.param(
            "10-1-0-2.plain.d.ext.test.",
            "A",
            ["NOERROR", "10-1-0-2.plain.d.ext.test. 5 IN A 10.1.0.2"],
            id="endpoint, ClusterIP",
        ),
        pytest.param("plain.d.ext.test.", "A", NXDOMAIN, id="ClusterIP itself"),
        pytest.param("x.hl.d.ext.test.", "A", NXDOMAIN, id="no such endpoint"),
        pytest.param(
            "x.web.d.ext.test.", "A", ["NOERROR", "x.web.d.ext.test. 5 IN A 192.0.2.1"], id="external addresses win"
        ),
        pytest.param(
            "_http._tcp.hl.d.ext.test.",
            "SRV",
            [
                "NOERROR",
                "_http._tcp.hl.d.ext.test. 30 IN SRV 0 50 80 10-1-0-1.hl.d.ext.test.",
                "_http._tcp.hl.d.ext.test. 30 IN SRV 0 50 80 Db-0.hl.d.ext.test.",
                "add 10-1-0-1.hl.d.ext.test. 5 IN A 10.1.0.1",
                "add Db-0.hl.d.ext.test. 5 IN AAAA fd00::1",
            ],
            id="SRV",
        ),
    ],
)
def test_headless(name: str, rtype: str, expected: list[str]) -> None:
    """With the option `headless`, endpoints of headless Services have external names."""
    assert world.summary(ask(plugin("headless"), name, rtype)) == expected


ELSEWHERE = Reply(flags=TC, answer=world.records("lb.example.com. 20 IN A 198.51.100.1"), lifetime=20)


def test_a_hostname_is_a_cname_for_each_port() -> None:
    """Each port gives a CNAME record and the server's answer for the hostname. The answer limits the lifetime of the
    reply.
    """
    reply = ask(plugin(), "lb.d.ext.test.", elsewhere=ELSEWHERE)
    pair = ["lb.d.ext.test. 30 IN CNAME lb.example.com.", "lb.example.com. 20 IN A 198.51.100.1"]
    assert world.summary(reply) == ["NOERROR", *pair, *pair]
    assert reply.flags == AA | RD | TC
    assert reply.lifetime == 20


def test_a_nonexistent_hostname_is_a_cname() -> None:
    """The reply has only the CNAME record, with rcode NOERROR."""
    reply = ask(plugin(), "lb.d.ext.test.")
    assert world.summary(reply) == ["NOERROR", *["lb.d.ext.test. 30 IN CNAME lb.example.com."] * 2]
    assert reply.lifetime == NOT_REUSABLE


def test_a_hostname_is_the_target_of_srv_records() -> None:
    reply = ask(plugin(), "lb.d.ext.test.", "SRV", elsewhere=ELSEWHERE)
    assert world.summary(reply) == [
        "NOERROR",
        "lb.d.ext.test. 30 IN SRV 0 50 80 lb.example.com.",
        "lb.d.ext.test. 30 IN SRV 0 50 53 lb.example.com.",
        *["add lb.example.com. 20 IN A 198.51.100.1"] * 2,
    ]


async def test_a_hostname_with_a_deferred_answer() -> None:
    async def later() -> Reply:
        return ELSEWHERE

    answer: Answer = world.handled(plugin(), world.query("lb.d.ext.test.", ask=lambda _: later()), world.following())
    assert not isinstance(answer, Reply)
    assert len((await answer).answer) == 4


@pytest.mark.parametrize(
    ("name", "rcode"),
    [
        pytest.param("x.d.ext.test.", "REFUSED", id="no such name"),
        pytest.param("d.ext.test.", "NOERROR", id="NODATA does not"),
        pytest.param("x.dns.ext.test.", "NXDOMAIN", id="names below apex do not"),
        pytest.param("8.2.0.192.in-addr.arpa.", "NXDOMAIN", id="other zones do not"),
    ],
)
def test_fallthrough(name: str, rcode: str) -> None:
    """Nonexistent names of the given zones go to the next plugin."""
    reply = ask(plugin("fallthrough ext.test"), name)
    assert world.summary(reply)[0] == rcode


def test_names_of_other_zones_go_to_the_next_plugin() -> None:
    assert ask(plugin(), "web.d.svc.cluster.local.") == Reply(rcode=5)


def test_options_of_the_zone() -> None:
    """`apex` sets the parent name of the name servers, and `ttl` the TTL of all records."""
    handler = plugin("apex Names\n ttl 90")
    soa = "ext.test. 90 IN SOA ns1.Names.ext.test. hostmaster.Names.ext.test. SERIAL 7200 1800 86400 90"
    assert world.summary(ask(handler, "ext.test.", "SOA")) == ["NOERROR", soa]
    assert world.summary(ask(handler, "names.ext.test.")) == ["NOERROR", "auth " + soa]
    assert world.summary(ask(handler, "web.d.ext.test.")) == ["NOERROR", "web.d.ext.test. 90 IN A 192.0.2.1"]


SERVED = (
    Service("d", "dns", ("10.0.0.53",), external_ips=("192.0.2.53", "lb.example.com")),
    EndpointSlice("d", "s", "dns", (), (Endpoint("10.1.0.53"),)),
)


@pytest.mark.parametrize(
    ("objects", "lines", "address"),
    [
        pytest.param((), "", "10.1.0.53", id="its own address, outside a cluster"),
        pytest.param(SERVED, "", "192.0.2.53", id="the external address of its Service"),
        pytest.param(
            (Service("d", "dns", ("None",)), SERVED[1]), "headless", "10.1.0.53", id="its headless Service's endpoints"
        ),
    ],
)
def test_name_servers(objects: tuple[ClusterObject, ...], lines: str, address: str) -> None:
    """The addresses of name servers are in NS replies, and at the name servers' own names."""
    handler = plugin(lines, index(Namespace("d"), *objects), local_addresses=("10.1.0.53",))
    assert world.summary(ask(handler, "Ext.test.", "NS"))[1:] == [
        "ext.test. 5 IN NS ns1.dns.ext.test.",
        f"add ns1.dns.Ext.test. 5 IN A {address}",
    ]
    assert world.summary(ask(handler, "ns1.DNS.ext.test.")) == ["NOERROR", f"ns1.DNS.ext.test. 5 IN A {address}"]
    assert world.summary(ask(handler, "ns1.dns.ext.test.", "AAAA")) == NODATA


def test_a_headless_name_server_without_the_option_has_no_address() -> None:
    found = index(Namespace("d"), Service("d", "dns", ("None",)), SERVED[1])
    assert world.summary(ask(plugin("", found, local_addresses=("10.1.0.53",)), "ext.test.", "NS"))[1:] == [
        "ext.test. 5 IN NS ns1.dns.ext.test."
    ]


@pytest.mark.parametrize(
    ("name", "rtype", "change"),
    [
        pytest.param("ext.test.", "SOA", Serials(1, 1, 1), id="serial"),
        pytest.param(
            "web.d.ext.test.", "A", Put(Service("d", "web", (), (HTTP,), external_ips=("192.0.2.2",))), id="service"
        ),
        pytest.param(
            "new.d.ext.test.",
            "A",
            Put(Service("d", "new", (), (HTTP,), external_ips=("192.0.2.2",))),
            id="a new service",
        ),
        pytest.param(
            "hl.d.ext.test.",
            "A",
            Put(EndpointSlice("d", "hl-2", "hl", (HTTP,), (Endpoint("10.1.0.7"),))),
            id="endpoints",
        ),
        pytest.param("web.n.ext.test.", "A", Put(Namespace("n")), id="namespace"),
        pytest.param(
            "1.2.0.192.in-addr.arpa.",
            "PTR",
            Put(Service("e", "web", (), (DNS,), external_ips=("192.0.2.1",))),
            id="address",
        ),
        pytest.param(
            "ns1.dns.ext.test.",
            "A",
            Put(EndpointSlice("d", "x", "dns", (), (Endpoint("10.1.0.53"),))),
            id="the name server's slice",
        ),
    ],
)
def test_a_change_of_the_answer_affects_a_dependency(name: str, rtype: str, change: Put | Serials) -> None:
    found = index(*OBJECTS)
    handler = plugin("headless", found, local_addresses=("10.1.0.53",))
    before = ask(handler, name, rtype)
    assert found.apply(change) & set(before.dependencies)


def test_zones_without_names_of_the_plugin_are_name_independent() -> None:
    """Outside its zones, *k8s_external* ignores the name, so that one negative answer serves all names."""
    handler = plugin(zones="ext.test")
    found = {
        zone: handler.name_independent(names.from_text(zone))
        for zone in ("cluster.local.", "ext.test.", "a.ext.test.", "test.")
    }
    assert found == {"cluster.local.": True, "ext.test.": False, "a.ext.test.": False, "test.": False}


@pytest.mark.parametrize("name", ["web.d.ext.test.", "x.d.ext.test.", "ext.test."])
def test_replies_from_stale_data_have_an_extended_error(name: str) -> None:
    """The extended error is Stale Answer (RFC 8914 §4.4), as in *kubernetes*."""
    handler = plugin(found=(found := index(*OBJECTS)))
    found.apply(Confirmed(-5000.0))
    assert ask(handler, name).extended is None
    handler._cluster.tick()  # type: ignore[attr-defined]
    assert ask(handler, name).extended == ExtendedError.STALE_ANSWER
