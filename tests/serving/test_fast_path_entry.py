"""Which queries take the fast path, and which server blocks have a fast path."""

from __future__ import annotations

from collections.abc import AsyncIterator

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from svcdns.serving.fast_path import FastPathExchange, FinishedReply, try_fast_path
from svcdns.wire.codes import QR, RA, TC
from tests.support.outside import NAME, PLAIN, Outside, assert_same, both_ways, query, replying, shape
from tests.support.scripted_upstream import Respond, ScriptedUpstream

A = f"{NAME} 300 IN A 192.0.2.1"
SOA = "example.org. 90 IN SOA ns.example.org. host.example.org. 1 7200 3600 1209600 60"
STOCK = """
errors
health
ready
kubernetes cluster.local in-addr.arpa ip6.arpa {{
    pods insecure
    fallthrough in-addr.arpa ip6.arpa
    ttl 30
}}
prometheus
forward . {} {{
    max_concurrent 1000
}}
cache 30 {{
    disable success cluster.local
    disable denial cluster.local
}}
loop
reload
loadbalance
"""
QUERIES = {"one": query(), "AD": query(flags=dns.flags.AD), "EDNS": query(use_edns=0), "DO": query(want_dnssec=True)}


def changed(packet: bytes, at: int, octets: bytes) -> bytes:
    """Returns the packet with other octets at offset `at`."""
    return packet[:at] + octets + packet[at + len(octets) :]


def named(name: bytes, tail: bytes = b"\0\1\0\1") -> bytes:
    """Returns a query for a name in wire format."""
    return b"\0\7\1\0\0\1\0\0\0\0\0\0" + name + tail


OPT_AT = len(query())
WITH_OPT = query(use_edns=0)
OTHER_TYPES = ("NS", "CNAME", "SOA", "PTR", "MX", "TXT", "SRV", "DS", "HTTPS", "ANY", "AXFR")
LONGEST = b"\x3f" + b"a" * 63 + b"\x3f" + b"b" * 63 + b"\x3f" + b"c" * 63 + b"\x3d" + b"d" * 61 + b"\0"


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    """Yields a listener with the stock Corefile. Its upstream answers every query with NXDOMAIN."""
    async with ScriptedUpstream(replying(authority=[SOA], rcode=3)) as upstream:
        with Outside(STOCK, upstream) as served:
            yield served


@pytest.mark.parametrize(
    "packet",
    [
        *[pytest.param(packet, id=name) for name, packet in QUERIES.items()],
        pytest.param(query(rtype="AAAA"), id="AAAA"),
        pytest.param(query("a.b."), id="two labels"),
        pytest.param(query("WWW.Example.ORG."), id="capitals"),
        pytest.param(query("4.3.2.1.in-addr.arpa.example."), id="no reverse zone"),
        pytest.param(named(LONGEST), id="the longest name"),
        pytest.param(named(b"\1\0\1.\0"), id="odd octets"),
        pytest.param(named(b"\1\0\5\0\1\0\1\0\0"), id="a name like a question section"),
        pytest.param(query(use_edns=0, payload=0), id="EDNS of no octets"),
    ],
)
async def test_queries_on_the_fast_path(outside: Outside, packet: bytes) -> None:
    """Most clients send queries in this form."""
    assert try_fast_path(packet, outside.responder, 0.0) is not None


@pytest.mark.parametrize(
    "packet",
    [
        *[pytest.param(changed(query(), 2, bytes((1 | opcode << 3,))), id=f"opcode {opcode}") for opcode in (1, 2, 4, 5, 15)],
        pytest.param(changed(query(), 2, b"\0"), id="RD clear"),
        pytest.param(query(flags=dns.flags.CD), id="CD"),
        pytest.param(query(flags=dns.flags.CD | dns.flags.AD), id="CD and AD"),
        pytest.param(query(flags=QR), id="a reply"),
        pytest.param(query(flags=dns.flags.AA), id="AA"),
        pytest.param(query(flags=TC), id="TC"),
        pytest.param(query(flags=RA), id="RA"),
        pytest.param(changed(query(), 3, b"\x40"), id="Z"),
        pytest.param(changed(query(), 3, b"\3"), id="an rcode"),
        pytest.param(changed(query(), 4, b"\0\0"), id="no question"),
        pytest.param(changed(query(), 4, b"\0\2"), id="two questions"),
        pytest.param(changed(query(), 6, b"\0\1"), id="an answer"),
        pytest.param(changed(query(), 8, b"\0\1"), id="an authority"),
        pytest.param(changed(query(), 10, b"\0\1"), id="an OPT that is not there"),
        pytest.param(changed(WITH_OPT, 10, b"\0\0"), id="an OPT that is not counted"),
        pytest.param(changed(WITH_OPT, 10, b"\0\2"), id="two OPTs"),
        pytest.param(query(use_edns=1), id="another version of EDNS"),
        pytest.param(changed(WITH_OPT, OPT_AT + 5, b"\1"), id="an extended rcode"),
        pytest.param(changed(WITH_OPT, OPT_AT + 7, b"\x40"), id="another bit of EDNS"),
        pytest.param(changed(WITH_OPT, OPT_AT, b"\1"), id="an OPT with a name"),
        pytest.param(changed(WITH_OPT, OPT_AT + 1, b"\0\1"), id="another additional record"),
        pytest.param(changed(WITH_OPT, OPT_AT + 9, b"\0\4"), id="an OPT that is cut off"),
        pytest.param(query(use_edns=0, options=[dns.edns.NSIDOption(b"")]), id="NSID"),
        pytest.param(query(use_edns=0, options=[dns.edns.ECSOption("192.0.2.0")]), id="client subnet"),
        pytest.param(query(use_edns=0, options=[dns.edns.CookieOption(bytes(8), b"")]), id="a cookie"),
        *[pytest.param(query(rtype=rtype), id=rtype) for rtype in OTHER_TYPES],
        pytest.param(query(rdclass="CH"), id="class CH"),
        pytest.param(query(rdclass="ANY"), id="class ANY"),
        pytest.param(query("."), id="the root"),
        pytest.param(query("localhost."), id="a single label"),
        pytest.param(query("a" * 63 + "."), id="a single slow label"),
        pytest.param(query("cluster.local."), id="the cluster's zone"),
        pytest.param(query("web.default.svc.cluster.local."), id="a name of the cluster"),
        pytest.param(query("web.default.svc.CLUSTER.Local."), id="a name of the cluster in capitals"),
        pytest.param(query("1.0.0.10.in-addr.arpa."), id="a reverse zone"),
        pytest.param(query("1.ip6.arpa.", "AAAA"), id="an IPv6 reverse zone"),
        pytest.param(query() + b"\0", id="an octet behind"),
        pytest.param(WITH_OPT + b"\0", id="an octet behind the OPT"),
        pytest.param(WITH_OPT + bytes(11), id="octets behind the OPT"),
        pytest.param(named(b"\3www\7example\3org"), id="no root label"),
        pytest.param(named(b"\3www\7example\4org\0"), id="a label that is too slow"),
        pytest.param(named(b"\3www\7example\2org\0"), id="a label that is too fast"),
        pytest.param(named(b"\3www\0\3org\0"), id="a root label inside"),
        pytest.param(named(b"\3www\xc0\x0c\0"), id="a pointer"),
        pytest.param(named(b"\x40" + b"a" * 64 + b"\1b\0"), id="a label of 64 octets"),
        pytest.param(named(b"\1a" + LONGEST), id="a name of more than 255 octets"),
        pytest.param(named(b"\3www\xff\0"), id="a label beyond the packet"),
        pytest.param(named(b""), id="no name"),
        pytest.param(named(b"\0\0"), id="two root labels"),
        pytest.param(named(b"\1a\1b\0", b"\0\1\0"), id="a class that is cut off"),
    ],
)  # fmt: skip
async def test_other_queries(outside: Outside, packet: bytes) -> None:
    """A query with other flags, opcode, type, class or sections goes through the chain."""
    assert try_fast_path(packet, outside.responder, 0.0) is None


async def test_random_octets_raise_no_exception(outside: Outside) -> None:
    for packet in (*QUERIES.values(), query(rtype="AAAA"), named(b"\0")):
        for size in range(len(packet)):
            assert try_fast_path(packet[:size], outside.responder, 0.0) is None
    for size in range(40):
        for octet in (0, 1, 0xFF):
            assert try_fast_path(bytes((octet,)) * size, outside.responder, 0.0) is None
            assert try_fast_path(b"\0\7\1\0\0\1\0\0\0\0\0\1" + bytes((octet,)) * size, outside.responder, 0.0) is None


async def test_names_in_the_cache(outside: Outside) -> None:
    """The cache answers a query with the same letter case, until its entry has expired. Then an upstream answers."""
    await outside.ask(query())
    assert try_fast_path(query("WWW.example.org.", use_edns=0), outside.responder, 0.0) is None
    assert type(try_fast_path(query(use_edns=0), outside.responder, 0.0)) is FinishedReply
    for other in (query(rtype="AAAA"), query(want_dnssec=True)):
        assert type(try_fast_path(other, outside.responder, 0.0)) is FastPathExchange
    outside.clock.turn(31)
    assert "www.example.org. IN A" in shape(await outside.ask(query()))
    assert outside.on_fast_path == 2


async def test_a_forwarding_loop(outside: Outside) -> None:
    """Queries go through the chain as long as *loop* reports a loop."""
    [notify] = outside.on_data["loop", ". 127.0.0.1:53"]
    notify(b"1.2. 127.0.0.1:1 -> 127.0.0.1:53")
    assert try_fast_path(query(), outside.responder, 0.0) is None
    assert shape(await outside.ask(query()))[1] == "2"
    notify(b"")
    assert shape(await outside.ask(query("b.example.org.")))[1] == "3"
    assert outside.on_fast_path == 1


LEAKS = "prometheus\nkubernetes cluster.local example.net {{\n}}\ncache 30\nforward . {} {{\nleak_guard block\n}}"


@pytest.mark.parametrize("name", ["a.cluster.local.", "a.example.net.", "EXAMPLE.net."])
async def test_names_of_the_cluster(name: str) -> None:
    """The chain answers names that *kubernetes* or the leak guard may answer."""
    async with ScriptedUpstream(replying(A)) as upstream:
        for body in (
            LEAKS,
            "cache 30\nforward . {} {{\nleak_guard block\n}}",
            "cache 30\nforward . {}",
            "cache 30\nforward . {} {{\nleak_guard off\n}}",
        ):
            with Outside(body, upstream) as outside:
                may_leave = ("cluster.local" in name and not body.endswith("block\n}}")) or (
                    "net" in name and body is not LEAKS
                )
                assert (try_fast_path(query(name), outside.responder, 0.0) is not None) == may_leave


CLUSTER_NAME = "Web.default.svc.cluster.local."
LEAKED = ("svcdns_forward_leaked_total", "dns://127.0.0.1:53", "cluster", "forwarded")
NODE_LOCAL = PLAIN.replace("forward . {}", "forward . {} {{\nforce_tcp\n}}")


@pytest.mark.parametrize(
    ("body", "leaks"),
    [
        pytest.param(PLAIN, 1, id="a block for all names"),
        pytest.param(NODE_LOCAL, 1, id="over TCP"),
        pytest.param("whoami\n}}\nlocal {{\n" + PLAIN, 1, id="a zone above the cluster's"),
        pytest.param(
            "cache\nforward . 127.0.0.1:1\n}}\ncluster.local in-addr.arpa {{\n" + NODE_LOCAL, 0, id="a node-local cache"
        ),
        pytest.param("whoami\n}}\nsvc.cluster.local {{\n" + PLAIN, 0, id="a zone in the cluster's"),
    ],
)
@pytest.mark.parametrize(
    "respond",
    [
        pytest.param(replying(f"{CLUSTER_NAME} 5 IN A 10.0.0.1", flags=dns.flags.AA), id="an address"),
        pytest.param(
            replying(authority=[SOA.replace("example.org. 90", "cluster.local. 5")], rcode=3), id="no such name"
        ),
    ],
)
async def test_a_cache_for_names_of_the_cluster(body: str, leaks: int, respond: Respond) -> None:
    """Names of a cluster on another server take the fast path. The leak guard counts them as in the chain."""
    fast, slow = await both_ways(body, respond, query(CLUSTER_NAME), query(CLUSTER_NAME))
    assert_same(fast, slow, 1)
    assert fast.increments.get(LEAKED, (0,)) == (leaks,)


async def test_zones_without_a_cache() -> None:
    """If *cache* is disabled for the answers or denials of a zone, its names go through the chain."""
    async with ScriptedUpstream(replying(A)) as upstream:
        with Outside(
            "cache 30 {{\ndisable success example.net\ndisable denial example.com\n}}\nforward . {}", upstream
        ) as outside:
            found = [
                try_fast_path(query(f"a.example.{zone}."), outside.responder, 0.0) is not None
                for zone in ("net", "com", "org")
            ]
            assert found == [False, False, True]


# -- blocks


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("cache 30", id="no forward"),
        pytest.param("cache 30\nwhoami", id="another that answers"),
        pytest.param("log . {{/forward/upstream}}\n" + PLAIN, id="log with metadata"),
        pytest.param("rewrite name a.example.org. b.example.org.\n" + PLAIN, id="rewrite"),
        pytest.param("cache 30 example.org\nforward . {}", id="a cache of one zone"),
        pytest.param("cache 30 {{\nconfirm_denials\n}}\nforward . {}", id="denials in doubt"),
        pytest.param("cache 30\nforward . {} {{\nnext NXDOMAIN\n}}\nforward . 127.0.0.1:1", id="a line that hands on"),
        pytest.param(
            "cache 30\nforward . {} {{\nnext_on_nodata\n}}\nforward . 127.0.0.1:1", id="a line that hands nothing on"
        ),
        pytest.param("cache 30\nforward example.org {}\nforward . 127.0.0.1:1", id="a line for one zone first"),
        pytest.param("cache 30\nforward example.org {}", id="a line for one zone"),
        pytest.param("cache 30\nforward . {} {{\nexcept example.org\n}}", id="exceptions"),
        pytest.param("loadbalance round_robin {{\nprefer 10.0.0.0/8\n}}\n" + PLAIN, id="preferred addresses"),
        pytest.param("acl {{\nallow net 10.0.0.0/8\n}}\n" + PLAIN, id="acl"),
        pytest.param("minimal\n" + PLAIN, id="minimal"),
        pytest.param("header {{\nresponse set aa\n}}\n" + PLAIN, id="header"),
        pytest.param("local\n" + PLAIN, id="local"),
        pytest.param("template IN A example.org {{\nrcode NXDOMAIN\n}}\n" + PLAIN, id="template"),
    ],
)
async def test_blocks_without_a_fast_path(body: str) -> None:
    """A block needs *forward*, and no plugin that changes replies or observes queries."""
    async with ScriptedUpstream(replying(A)) as upstream:
        with Outside(body, upstream) as outside:
            assert outside.route.fast_path is None
            assert try_fast_path(query(), outside.responder, 0.0) is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(PLAIN, id="plain"),
        pytest.param(STOCK, id="stock"),
        pytest.param("log\nhosts {{\n192.0.2.1 a.example.org\nfallthrough\n}}\n" + PLAIN, id="hosts and log"),
        pytest.param("nsid a\nbufsize 512\nany\nchaos\n" + PLAIN, id="other types and classes"),
        pytest.param("cache\nforward . {}", id="two"),
        pytest.param("loadbalance round_robin\ncache 30 . example.org\nforward . {}", id="a cache of several zones"),
        pytest.param("cache 30\nforward . {}\nforward . 127.0.0.1:1", id="a second line that nothing comes to"),
    ],
)
async def test_blocks_with_a_fast_path(body: str) -> None:
    fast, slow = await both_ways(body, replying(A), query(), query())
    assert_same(fast, slow, 1)


async def test_names_of_other_blocks() -> None:
    """Each block has its own fast path. A name of no block has none."""
    async with ScriptedUpstream(replying(A)) as upstream:
        with Outside(
            PLAIN + "\n}}\nexample.org {{\nwhoami\n}}\na.example.org {{\ncache 30 .\nforward . 127.0.0.1:1", upstream
        ) as outside:
            found = [
                try_fast_path(query(name), outside.responder, 0.0) is not None
                for name in ("example.com.", "b.example.org.", "b.A.example.org.")
            ]
            assert found == [True, False, True]
            outside.listener.routes.clear()
            assert try_fast_path(query(), outside.responder, 0.0) is None
