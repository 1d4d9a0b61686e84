"""The plugin *kubernetes*: the examples and tables of docs/behaviour/cluster-names.md."""

from __future__ import annotations

import msgspec
import pytest

from svcdns.cluster.objects import Endpoint, EndpointSlice, Namespace, Pod, Port, Service
from svcdns.plugin_api.reply import NOT_REUSABLE, UNTIL_CHANGED, Reply, rcode_only
from svcdns.wire import names
from svcdns.wire.codes import AA, CD, RD, Rcode, Type
from tests.plugins.kubernetes.fixture import HTTP, OBJECTS, ask, index, plugin
from tests.support import world

SOA = "auth cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. SERIAL 7200 1800 86400 5"
NXDOMAIN = ["NXDOMAIN", SOA]
NODATA = ["NOERROR", SOA]
WEB = "web.d.svc.cluster.local."


def reverse_soa(zone: str) -> str:
    return f"auth {zone} 5 IN SOA ns.dns.{zone} hostmaster.{zone} SERIAL 7200 1800 86400 5"


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        pytest.param(WEB, "A", ["NOERROR", f"{WEB} 5 IN A 10.0.0.1"], id="1 ClusterIP"),
        pytest.param(WEB, "AAAA", NODATA, id="2 other family"),
        pytest.param(
            "WEB.D.svc.Cluster.Local.",
            "A",
            ["NOERROR", "WEB.D.svc.Cluster.Local. 5 IN A 10.0.0.1"],
            id="3 owner as in the query",
        ),
        pytest.param(
            "_HTTP._tcp.web.d.svc.CLUSTER.local.",
            "SRV",
            [
                "NOERROR",
                "_HTTP._tcp.web.d.svc.CLUSTER.local. 5 IN SRV 0 100 80 web.d.svc.CLUSTER.local.",
                "add web.d.svc.CLUSTER.local. 5 IN A 10.0.0.1",
            ],
            id="4 zone as in the query",
        ),
        pytest.param(
            WEB,
            "SRV",
            ["NOERROR", f"{WEB} 5 IN SRV 0 50 80 {WEB}", f"{WEB} 5 IN SRV 0 50 81 {WEB}", f"add {WEB} 5 IN A 10.0.0.1"],
            id="5 bare name",
        ),
        pytest.param(
            "_http._tcp.dual.d.svc.cluster.local.",
            "SRV",
            [
                "NOERROR",
                "_http._tcp.dual.d.svc.cluster.local. 5 IN SRV 0 50 80 dual.d.svc.cluster.local.",
                "add dual.d.svc.cluster.local. 5 IN A 10.0.0.2",
                "add dual.d.svc.cluster.local. 5 IN AAAA fd00::2",
            ],
            id="6 dual-stack",
        ),
        pytest.param(
            "http.tcp.web.d.svc.cluster.local.",
            "SRV",
            ["NOERROR", f"http.tcp.web.d.svc.cluster.local. 5 IN SRV 0 100 80 {WEB}", f"add {WEB} 5 IN A 10.0.0.1"],
            id="7 without underscores",
        ),
        pytest.param("_http._udp.web.d.svc.cluster.local.", "SRV", NXDOMAIN, id="8 wrong protocol"),
        pytest.param("_tcp.web.d.svc.cluster.local.", "A", NXDOMAIN, id="9 protocol alone is an endpoint"),
        pytest.param(
            "_http._tcp.web.d.svc.cluster.local.",
            "A",
            ["NOERROR", "_http._tcp.web.d.svc.cluster.local. 5 IN A 10.0.0.1"],
            id="10 A at a port",
        ),
        pytest.param(
            "nop.d.svc.cluster.local.", "A", ["NOERROR", "nop.d.svc.cluster.local. 5 IN A 10.0.0.3"], id="11 no ports"
        ),
        pytest.param("nop.d.svc.cluster.local.", "SRV", NODATA, id="11 no ports, SRV"),
        pytest.param(
            "hl.d.svc.cluster.local.",
            "A",
            ["NOERROR", "hl.d.svc.cluster.local. 5 IN A 172.16.0.2", "hl.d.svc.cluster.local. 5 IN A 172.16.0.3"],
            id="12 headless",
        ),
        pytest.param(
            "db-0.hl.d.svc.cluster.local.",
            "A",
            ["NOERROR", "db-0.hl.d.svc.cluster.local. 5 IN A 172.16.0.3"],
            id="13 hostname",
        ),
        pytest.param(
            "172-16-0-2.hl.d.svc.cluster.local.",
            "A",
            ["NOERROR", "172-16-0-2.hl.d.svc.cluster.local. 5 IN A 172.16.0.2"],
            id="14 dashed",
        ),
        pytest.param("172-16-0-3.hl.d.svc.cluster.local.", "A", NXDOMAIN, id="15 its name is db-0"),
        pytest.param(
            "172-16-0-9.web.d.svc.cluster.local.",
            "A",
            ["NOERROR", "172-16-0-9.web.d.svc.cluster.local. 5 IN A 172.16.0.9"],
            id="16 endpoint of a ClusterIP service",
        ),
        pytest.param(
            "fd00--1.hl.d.svc.cluster.local.",
            "AAAA",
            ["NOERROR", "fd00--1.hl.d.svc.cluster.local. 5 IN AAAA fd00::1"],
            id="IPv6",
        ),
        pytest.param("empty.d.svc.cluster.local.", "A", NXDOMAIN, id="18 headless without endpoints"),
        pytest.param(
            "ext.d.svc.cluster.local.",
            "CNAME",
            ["NOERROR", "ext.d.svc.cluster.local. 5 IN CNAME www.example.com."],
            id="19",
        ),
        pytest.param("ext.d.svc.cluster.local.", "SRV", NODATA, id="19 SRV"),
        pytest.param("ext.d.svc.cluster.local.", "TXT", NODATA, id="19 TXT"),
        pytest.param("x.ext.d.svc.cluster.local.", "A", NXDOMAIN, id="below an ExternalName"),
        pytest.param("literal.d.svc.cluster.local.", "A", NXDOMAIN, id="ExternalName that is an address"),
        pytest.param(
            "inside.d.svc.cluster.local.",
            "A",
            ["NOERROR", f"inside.d.svc.cluster.local. 5 IN CNAME {WEB}", f"{WEB} 5 IN A 10.0.0.1"],
            id="ExternalName inside the zone",
        ),
        pytest.param("self.d.svc.cluster.local.", "A", NODATA, id="ExternalName loop"),
        pytest.param("dead.d.svc.cluster.local.", "A", NODATA, id="ExternalName dead end"),
        pytest.param("d.svc.cluster.local.", "A", NODATA, id="21 namespace"),
        pytest.param("d.svc.cluster.local.", "TXT", NXDOMAIN, id="21 namespace TXT"),
        pytest.param("x.svc.cluster.local.", "A", NXDOMAIN, id="22 unknown namespace"),
        pytest.param("web.hidden.svc.cluster.local.", "A", NXDOMAIN, id="namespace without an object"),
        pytest.param("svc.cluster.local.", "A", NODATA, id="23"),
        pytest.param("foo.cluster.local.", "A", NXDOMAIN, id="24"),
        pytest.param("nosuch.d.svc.cluster.local.", "SOA", NODATA, id="25 SOA quirk"),
        pytest.param("cluster.local.", "A", NODATA, id="26 apex"),
        pytest.param("cluster.local.", "SOA", ["NOERROR", SOA.removeprefix("auth ")], id="26 SOA"),
        pytest.param("cluster.local.", "TXT", NXDOMAIN, id="26 TXT quirk"),
        pytest.param(
            "dns-version.cluster.local.", "TXT", ["NOERROR", 'dns-version.cluster.local. 28800 IN TXT "1.1.0"'], id="27"
        ),
        pytest.param("dns-version.cluster.local.", "A", NXDOMAIN, id="27 A"),
        pytest.param(
            "10-1-2-3.d.pod.cluster.local.", "A", ["NOERROR", "10-1-2-3.d.pod.cluster.local. 5 IN A 10.1.2.3"], id="28"
        ),
        pytest.param("10-1-2-3.d.pod.cluster.local.", "AAAA", NODATA, id="28 other family"),
        pytest.param("10-1-2-256.d.pod.cluster.local.", "A", NXDOMAIN, id="29"),
        pytest.param("01-2-3-4.d.pod.cluster.local.", "A", NXDOMAIN, id="leading zero"),
        pytest.param("1-2-3-4.x.pod.cluster.local.", "A", NXDOMAIN, id="30"),
        pytest.param(
            "x.10-1-2-3.d.pod.cluster.local.",
            "A",
            ["NOERROR", "x.10-1-2-3.d.pod.cluster.local. 5 IN A 10.1.2.3"],
            id="extra label",
        ),
        pytest.param("a.b.c.web.d.svc.cluster.local.", "A", NXDOMAIN, id="31 too deep"),
        pytest.param(WEB, "HTTPS", NODATA, id="32 HTTPS"),
        pytest.param(WEB, "ANY", NODATA, id="32 ANY"),
        pytest.param(WEB, "MX", NODATA, id="32 MX"),
        pytest.param("*.d.svc.cluster.local.", "A", NXDOMAIN, id="34 no wildcard"),
        pytest.param(
            "1.0.0.10.in-addr.arpa.",
            "PTR",
            ["NOERROR", f"1.0.0.10.in-addr.arpa. 5 IN PTR {WEB}"],
            id="PTR of a ClusterIP",
        ),
        pytest.param(
            "3.0.16.172.in-addr.arpa.",
            "PTR",
            ["NOERROR", "3.0.16.172.in-addr.arpa. 5 IN PTR db-0.hl.d.svc.cluster.local."],
            id="PTR endpoint",
        ),
        pytest.param(
            "9.0.0.10.in-addr.arpa.",
            "PTR",
            ["NOERROR", "9.0.0.10.in-addr.arpa. 5 IN PTR web.hidden.svc.cluster.local."],
            id="PTR ignores a missing namespace",
        ),
        pytest.param(
            "1.0.0.10.in-addr.arpa.", "A", ["NXDOMAIN", reverse_soa("in-addr.arpa.")], id="reverse name, other type"
        ),
        pytest.param(
            "0.10.in-addr.arpa.", "PTR", ["NXDOMAIN", reverse_soa("in-addr.arpa.")], id="partial reverse name"
        ),
        pytest.param(
            "2." + "0." * 27 + "0.0.d.f.ip6.arpa.",
            "PTR",
            ["NOERROR", "2." + "0." * 27 + "0.0.d.f.ip6.arpa. 5 IN PTR dual.d.svc.cluster.local."],
            id="PTR IPv6",
        ),
    ],
)
def test_answers(name: str, rtype: str, expected: list[str]) -> None:
    """Each reply has AA set, and stays valid until the cluster changes."""
    reply = ask(plugin(), name, rtype)
    assert world.summary(reply) == expected
    assert reply.flags == AA | RD
    assert reply.lifetime == UNTIL_CHANGED


def test_headless_srv() -> None:
    """Each endpoint has an SRV record for each port of its slice. The weight is 100 divided by the
    number of records.
    """
    reply = ask(plugin(), "_http._tcp.hl.d.svc.cluster.local.", "SRV")
    assert world.summary(reply)[1:4] == [
        "_http._tcp.hl.d.svc.cluster.local. 5 IN SRV 0 33 8080 172-16-0-2.hl.d.svc.cluster.local.",
        "_http._tcp.hl.d.svc.cluster.local. 5 IN SRV 0 33 8080 db-0.hl.d.svc.cluster.local.",
        "_http._tcp.hl.d.svc.cluster.local. 5 IN SRV 0 33 8080 fd00--1.hl.d.svc.cluster.local.",
    ]
    assert len(reply.additional) == 3


def test_weight_is_at_least_one() -> None:
    """With 150 endpoints, each SRV record has weight 1 (docs/behaviour/cluster-names.md#srv-records)."""
    many = EndpointSlice("d", "hl-1", "hl", (HTTP,), tuple(Endpoint(f"10.9.0.{n}") for n in range(1, 151)))
    reply = ask(plugin(found=index(*OBJECTS, many)), "_http._tcp.hl.d.svc.cluster.local.", "SRV")
    assert {line.split()[5] for line in world.shown(reply.answer)} == {"1"}


@pytest.mark.parametrize(
    ("outside", "expected"),
    [
        pytest.param(rcode_only(Rcode.SERVFAIL), [], id="20 failure: the CNAME alone"),
        pytest.param(Reply(rcode=3), [], id="20 NXDOMAIN: the CNAME alone"),
        pytest.param(
            Reply(answer=world.records("www.example.com. 20 IN A 192.0.2.7")),
            ["www.example.com. 20 IN A 192.0.2.7"],
            id="followed",
        ),
    ],
)
def test_external_name_outside_the_zone(outside: Reply, expected: list[str]) -> None:
    """The reply has the CNAME record and NOERROR, whatever the target's rcode is. The target's answer limits the
    lifetime.
    """
    reply = ask(plugin(), "ext.d.svc.cluster.local.", ask=lambda _: outside)
    assert world.summary(reply) == ["NOERROR", "ext.d.svc.cluster.local. 5 IN CNAME www.example.com.", *expected]
    assert reply.lifetime == NOT_REUSABLE


async def test_external_name_with_a_deferred_answer() -> None:
    async def later() -> Reply:
        return Reply(answer=world.records("www.example.com. 20 IN A 192.0.2.7"))

    answer = world.handled(plugin(), world.query("ext.d.svc.cluster.local.", ask=lambda _: later()), world.following())
    assert not isinstance(answer, Reply)
    assert len((await answer).answer) == 2


def chain(length: int) -> tuple[object, ...]:
    """Returns Services. `link-1` needs `length` CNAME records to reach an address."""
    links = [
        Service(
            "d", f"link-{n}", (), external_name=f"{'link-' + str(n + 1) if n < length else 'web'}.d.svc.cluster.local"
        )
        for n in range(1, length + 1)
    ]
    return (*OBJECTS, *links)


@pytest.mark.parametrize(("length", "records"), [(11, 12), (12, 0)])
def test_longest_chain(length: int, records: int) -> None:
    """Eleven CNAME records are followed to the address. With twelve, the answer is NODATA
    (docs/behaviour/cluster-names.md#externalname).
    """
    reply = ask(plugin(found=index(*chain(length))), "link-1.d.svc.cluster.local.")  # type: ignore[arg-type]
    assert len(reply.answer) == records


def test_a_zone_transfer_without_the_plugin_transfer_is_refused() -> None:
    assert ask(plugin(), "cluster.local.", "AXFR") == rcode_only(Rcode.REFUSED)


def test_names_of_other_zones_go_to_the_next_plugin() -> None:
    assert ask(plugin(), "www.example.com.", following=world.following(Reply(rcode=7))).rcode == 7


@pytest.mark.parametrize(
    ("options", "name", "passed"),
    [
        pytest.param("fallthrough", "nothing.d.svc.cluster.local.", True, id="name error"),
        pytest.param("fallthrough", "d.svc.cluster.local.", False, id="NODATA never"),
        pytest.param("fallthrough in-addr.arpa", "nothing.d.svc.cluster.local.", False, id="other zone"),
        pytest.param("fallthrough in-addr.arpa", "7.7.7.7.in-addr.arpa.", True, id="reverse"),
    ],
)
def test_fallthrough(options: str, name: str, passed: bool) -> None:
    """Only name errors in the zones of the option fall through (docs/behaviour/kubernetes.md#fallthrough). The reply
    depends on the cluster.
    """
    reply = ask(plugin(options), name, "PTR", following=world.following(Reply(rcode=7, lifetime=9.0)))
    assert (reply.rcode == 7) == passed
    if passed:
        assert reply.lifetime == 9.0
        assert reply.dependencies


@pytest.mark.parametrize(
    ("name", "rtype", "rcode"),
    [
        pytest.param("nothing.d.svc.cluster.local.", "A", "SERVFAIL", id="a name error"),
        pytest.param(WEB, "A", "NOERROR", id="a known name"),
        pytest.param("svc.cluster.local.", "A", "NOERROR", id="a name that always exists"),
        pytest.param("cluster.local.", "SOA", "NOERROR", id="SOA"),
    ],
)
def test_before_sync(name: str, rtype: str, rcode: str) -> None:
    """Only name errors become SERVFAIL (docs/behaviour/kubernetes.md#start-and-loss-of-the-api-server)."""
    handler = plugin(found=index(synced=False))
    reply = ask(handler, name, rtype)
    assert world.summary(reply)[0] == rcode
    assert reply.flags & AA
    assert not handler.ready()


@pytest.mark.parametrize(
    ("options", "name", "rtype", "expected"),
    [
        pytest.param("ttl 0", WEB, "A", ["NOERROR", f"{WEB} 0 IN A 10.0.0.1"], id="ttl"),
        pytest.param("ignore empty_service", "dual.d.svc.cluster.local.", "A", NXDOMAIN, id="ignore empty_service"),
        pytest.param(
            "ignore empty_service", WEB, "A", ["NOERROR", f"{WEB} 5 IN A 10.0.0.1"], id="a service with endpoints stays"
        ),
        pytest.param("namespaces other", WEB, "A", NXDOMAIN, id="namespaces"),
        pytest.param(
            "namespaces other",
            "1.0.0.10.in-addr.arpa.",
            "PTR",
            ["NXDOMAIN", reverse_soa("in-addr.arpa.")],
            id="namespaces and PTR",
        ),
        pytest.param("pods disabled", "10-1-2-3.d.pod.cluster.local.", "A", NXDOMAIN, id="pods disabled"),
        pytest.param("pods disabled", "d.pod.cluster.local.", "A", NXDOMAIN, id="pods disabled, namespace"),
        pytest.param("pods disabled", "pod.cluster.local.", "A", NODATA, id="pods disabled, subtree"),
        pytest.param(
            "endpoint_pod_names",
            "web-abc.web.d.svc.cluster.local.",
            "A",
            ["NOERROR", "web-abc.web.d.svc.cluster.local. 5 IN A 172.16.0.9"],
            id="endpoint_pod_names",
        ),
    ],
)
def test_options_change_answers(options: str, name: str, rtype: str, expected: list[str]) -> None:
    """The options are in docs/behaviour/kubernetes.md#options."""
    assert world.summary(ask(plugin(options), name, rtype)) == expected


def test_pods_verified() -> None:
    """A Pod name exists only if its namespace has a Pod with that address (docs/behaviour/cluster-names.md#pods)."""
    found = index(*OBJECTS, Pod("d", "p", "10.1.2.3"), Namespace("e"))
    handler = plugin("pods verified", found)
    names = ("10-1-2-3.d.pod", "10-1-2-4.d.pod", "10-1-2-3.e.pod")
    assert [ask(handler, f"{name}.cluster.local.").rcode for name in names] == [
        Rcode.NOERROR,
        Rcode.NXDOMAIN,
        Rcode.NXDOMAIN,
    ]


def test_the_namespace_of_a_client_is_that_of_its_pod() -> None:
    """*autopath* needs the namespace. It is known only with `pods verified` (docs/behaviour/plugins.md#autopath)."""
    found = index(*OBJECTS, Pod("d", "p", "10.1.2.3"))
    handler, insecure = plugin("pods verified", found), plugin("pods insecure", found)
    assert [handler.pod_namespace(address) for address in ("10.1.2.3", "10.1.2.4")] == ["d", ""]
    key, zone = b"\1a\7cluster\5local\0", b"\7cluster\5local\0"
    assert [handler.search_zone(name) for name in (key, b"\7example\0")] == [zone, None]
    assert (insecure.pod_namespace("10.1.2.3"), insecure.search_zone(key)) == ("", None)


def test_the_name_server_is_the_service_with_a_local_address() -> None:
    """A local address is one of the server's own addresses (docs/behaviour/cluster-names.md#zone-apex)."""
    dns_service = (
        Namespace("kube-system"),
        Service("kube-system", "kube-dns", ("10.96.0.10",), (Port("dns", "UDP", 53),)),
        EndpointSlice("kube-system", "kube-dns-1", "kube-dns", (Port("dns", "UDP", 53),), (Endpoint("192.0.2.53"),)),
    )
    handler = plugin(found=index(*OBJECTS, *dns_service), local_addresses=("192.0.2.53",))
    server = "kube-dns.kube-system.svc.cluster.local."
    assert world.summary(ask(handler, "cluster.local.", "NS")) == [
        "NOERROR",
        f"cluster.local. 5 IN NS {server}",
        f"add {server} 5 IN A 10.96.0.10",
    ]
    assert world.summary(ask(handler, "ns.dns.cluster.local.")) == [
        "NOERROR",
        "ns.dns.cluster.local. 5 IN A 10.96.0.10",
    ]
    assert ask(handler, "Cluster.local.", "NS").answer == ()
    assert ask(handler, "ns.dns.CLUSTER.local.").rcode == Rcode.NXDOMAIN


@pytest.mark.parametrize(
    ("name", "rcode"),
    [
        pytest.param("ns.dns.cluster.local.", "NOERROR", id="the name itself"),
        pytest.param("ns.dns.cluster.local.d.svc.cluster.local.", "NOERROR", id="with a search list"),
        pytest.param("x.ns.dns.cluster.local.", "NXDOMAIN", id="below it"),
        pytest.param("ns.dns.Cluster.local.", "NXDOMAIN", id="a zone in upper case"),
        pytest.param("ns.dns.other.cluster.local.", "NXDOMAIN", id="another name"),
    ],
)
def test_names_of_the_name_server(name: str, rcode: str) -> None:
    """The name server is `ns.dns.` with any labels after it, which end with the zone. Search lists add such labels."""
    assert world.summary(ask(plugin(local_addresses=("192.0.2.53",)), name))[0] == rcode


def test_the_root_zone_has_no_name_of_a_name_server() -> None:
    """As in CoreDNS, a *kubernetes* block for the root zone does not answer for `ns.dns.`"""
    handler = plugin(corefile="kubernetes . {\n}", local_addresses=("192.0.2.53",))
    assert ask(handler, "ns.dns.").rcode == Rcode.NXDOMAIN


def test_unusual_endpoint_names() -> None:
    """A Pod name with a dot, or an FQDN address, never equals a label. A Service with an empty ClusterIP is a CNAME
    record to the root.
    """
    found = index(
        Namespace("d"),
        Service("d", "hl", ("None",)),
        Service("d", "pending", ("",)),
        EndpointSlice(
            "d", "hl-1", "hl", (Port("http", "TCP", 8080),), (Endpoint("10.0.0.7", target="a.b"), Endpoint("crane"))
        ),
    )
    handler = plugin("endpoint_pod_names", found)
    assert ask(handler, "a\\.b.hl.d.svc.cluster.local.").rcode == Rcode.NXDOMAIN
    assert ask(handler, "crane.hl.d.svc.cluster.local.").rcode == Rcode.NXDOMAIN
    assert world.summary(ask(handler, "pending.d.svc.cluster.local.")) == [
        "NOERROR",
        "pending.d.svc.cluster.local. 5 IN CNAME .",
    ]


def test_zones_below_a_multicluster_zone_are_multicluster_zones() -> None:
    """The option `multicluster` names only the parent zone."""
    handler = plugin(corefile="kubernetes cluster.local set.local a.set.local {\n multicluster set.local\n}")
    assert ask(handler, "web.d.svc.a.set.local.").rcode == Rcode.NXDOMAIN


@pytest.mark.parametrize(("extra", "rcode"), [("", "NOERROR"), ("x.y.z.", "NOERROR"), ("w.x.y.z.", "NXDOMAIN")])
def test_labels_left_of_a_reverse_name(extra: str, rcode: str) -> None:
    """Under ip6.arpa, labels are read in groups of four. Up to three further labels on the left are ignored."""
    name = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa."
    assert world.summary(ask(plugin(), extra + name, "PTR"))[0] == rcode


def test_name_servers_outside_a_cluster() -> None:
    """The name server is `ns.dns` with the machine's addresses. Without addresses there is none."""
    reply = ask(plugin(local_addresses=("192.0.2.53",)), "cluster.local.", "NS")
    assert world.summary(reply) == [
        "NOERROR",
        "cluster.local. 5 IN NS ns.dns.cluster.local.",
        "add ns.dns.cluster.local. 5 IN A 192.0.2.53",
    ]
    assert ask(plugin(), "cluster.local.", "NS").answer == ()


def test_checking_disabled_is_copied() -> None:
    """RD and CD are copied from a query, but not from NOTIFY (docs/behaviour/server.md#replies)."""
    assert ask(plugin(), WEB, flags=RD | CD).flags == AA | RD | CD
    assert ask(plugin(), WEB, flags=0x2000 | RD).flags == AA


def test_closest_encloser() -> None:
    """The closest encloser is returned only if all nonexistent names below it get the same answer."""
    corefile = (
        "kubernetes cluster.local svc.cluster.local other.local set.local a.set.local {\n"
        " multicluster set.local\n fallthrough d.svc.other.local\n}"
    )
    handler = plugin(corefile=corefile, local_addresses=("192.0.2.53",))
    queried = (
        "x.d.svc.cluster.local.", "x.cluster.local.", "a.b.y.cluster.local.", "x.other.local.", "x.y.svc.other.local.",
        "x.d.svc.set.local.",        "web.d.svc.a.set.local.", "x.d.svc.other.local.", "x.pod.other.local.",
    )  # fmt: skip
    found = {name: handler.closest_encloser(names.from_text(name), Type.A) for name in queried}
    assert {name: names.to_text(encloser.key) for name, encloser in found.items() if encloser is not None} == {
        "x.d.svc.cluster.local.": "svc.cluster.local."
    }
    handler = plugin(local_addresses=("192.0.2.53",))
    for name, encloser, there, other in (
        ("x.d.svc.cluster.local.", "d.svc.cluster.local.", "web", "y"),
        ("e.x.d.svc.cluster.local.", "d.svc.cluster.local.", "web", "y"),
        ("web.x.svc.cluster.local.", "svc.cluster.local.", "d", "y"),
        ("www.example.com.cluster.local.", "cluster.local.", "svc", "org"),
    ):
        one = handler.closest_encloser(names.from_text(name), Type.A)
        assert one is not None
        assert names.to_text(one.key) == encloser
        assert ((one.scope, there) in one.children, (one.scope, other) in one.children) == (True, False)
        first, second = (
            ask(handler, f"{label}.{encloser}")
            for label in (name.removesuffix(encloser)[:-1].rpartition(".")[2], other)
        )
        assert first == msgspec.structs.replace(second, dependencies=first.dependencies)
        assert first.rcode == Rcode.NXDOMAIN
    for name, rtype in (
        ("x.d.svc.cluster.local.", Type.TXT),
        ("10-0-0-1.d.pod.cluster.local.", Type.A),
        ("d.svc.cluster.local.", Type.A),
    ):
        assert handler.closest_encloser(names.from_text(name), rtype) is None


def test_an_endpoint_of_no_service_has_no_reverse_name() -> None:
    """The EndpointSlice has no service label. `fallthrough` applies to the reverse query."""
    found = index(Namespace("d"), EndpointSlice("d", "odd", "", (HTTP,), (Endpoint("172.16.0.4"),)))
    name = "4.0.16.172.in-addr.arpa."
    assert ask(plugin(found=found), name, "PTR").rcode == Rcode.NXDOMAIN
    other = world.following(Reply(rcode=Rcode.REFUSED))
    assert ask(plugin("fallthrough in-addr.arpa", found), name, "PTR", other).rcode == Rcode.REFUSED
