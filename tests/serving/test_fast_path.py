"""The fast path for external names gives the same replies, cache entries and metrics as the plugin chain."""

from __future__ import annotations

from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from svcdns.serving.transport.udp_batch import REPLY_SIZE
from tests.support import plain_replies as made
from tests.support.outside import NAME, PLAIN, Outside, assert_same, both_ways, query, replying
from tests.support.scripted_upstream import Respond, ScriptedUpstream, header_alone

A = f"{NAME} 300 IN A 192.0.2.1"
MANY = tuple(f"{NAME} 300 IN A 192.0.2.{number}" for number in range(1, 41))
"""More than 512 octets, and less than 1232."""
SOA = "example.org. 90 IN SOA ns.example.org. host.example.org. 1 7200 3600 1209600 60"
BALANCED = "loadbalance\n" + PLAIN
UNCACHED = "prometheus\nerrors\nforward . {}"
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


@pytest.mark.parametrize(
    ("respond", "ttl"),
    [
        pytest.param(replying(A), 30, id="longer than the cache allows"),
        pytest.param(replying(f"{NAME} 20 IN A 192.0.2.1"), 20, id="as it is"),
        pytest.param(replying(f"{NAME} 1 IN A 192.0.2.1"), 5, id="shorter than the cache allows"),
        pytest.param(replying(f"{NAME} 0 IN A 192.0.2.1"), 5, id="none"),
        pytest.param(
            replying("www.example.org. 20 IN CNAME a.org.", "a.org. 15 IN A 192.0.2.1"), 15, id="the smallest"
        ),
        pytest.param(replying(authority=[SOA], rcode=3), 30, id="a denial's"),
        pytest.param(
            replying(authority=[SOA.replace("90", "2", 1)]), 5, id="a denial's, shorter than the cache allows"
        ),
    ],
)
async def test_ttls_are_those_of_the_cache(respond: Respond, ttl: int) -> None:
    """Even the first reply has the TTLs that *cache* would set."""
    fast, slow = await both_ways(PLAIN, respond, query(), query(), query())
    assert_same(fast, slow, 1 if ttl > 8 else 2)  # the third query comes after eight seconds
    shown = [{int(line.split()[1]) for line in reply if " IN A " in line or " SOA " in line} for reply in fast.replies]
    assert shown[:2] == [{ttl}, {ttl - 4}]


@pytest.mark.parametrize(
    ("options", "respond", "ttl"),
    [
        pytest.param("success 1024 3600 100", replying(f"{NAME} 20 IN A 192.0.2.1"), 100, id="at least"),
        pytest.param("success 1024 3600 0", replying(f"{NAME} 0 IN A 192.0.2.1"), 0, id="not cached at all"),
        pytest.param("success 1024 3600", replying(A), 300, id="at most"),
        pytest.param("denial 1024 40", replying(authority=[SOA]), 40, id="denials at most"),
        pytest.param("denial 1024 1000 200", replying(authority=[SOA], rcode=3), 200, id="denials at least"),
        pytest.param(
            "denial 1024 1000 0",
            replying(authority=[SOA.replace("90", "0", 1)], rcode=3),
            0,
            id="denials not cached at all",
        ),
        pytest.param("keepttl", replying(A), 3600, id="cached as they are"),
        pytest.param(
            "serve_stale 1h verify\nserve_stale_policy prefer_positive", replying(A), 3600, id="beside stale answers"
        ),
        pytest.param("prefetch 1", replying(A), 3600, id="with prefetching"),
    ],
)
async def test_bounds_of_ttls(options: str, respond: Respond, ttl: int) -> None:
    body = "prometheus\ncache {{\n" + options + "\n}}\nforward . {}"
    fast, slow = await both_ways(body, respond, query(), query(), query())
    assert_same(fast, slow, 3 if not ttl else 1)
    records = [line for line in fast.replies[0] if " IN A " in line or " SOA " in line]
    assert {int(line.split()[1]) for line in records} == {min(ttl, 300)}
    assert len(fast.entries) == (ttl > 0)


CHAIN = ("www.example.org. 60 IN CNAME a.example.org.", "a.example.org. 50 IN CNAME b.example.org.")
REPLIES = {
    "an address": (replying(A), "A"),
    "an IPv6 address": (replying(f"{NAME} 60 IN AAAA 2001:db8::1"), "AAAA"),
    "addresses": (replying(*MANY[:5]), "A"),
    "an alias": (replying(CHAIN[0], "a.example.org. 60 IN A 192.0.2.1"), "A"),
    "aliases": (replying(*CHAIN, *[f"b.example.org. 60 IN AAAA 2001:db8::{number}" for number in range(1, 5)]), "AAAA"),
    "no such name": (replying(authority=[SOA], rcode=3), "A"),
    "nothing of this type": (replying(authority=[SOA]), "AAAA"),
    "authoritative": (replying(A, flags=dns.flags.AA), "A"),
    "authentic": (replying(A, flags=dns.flags.AD), "A"),
    "checking disabled": (replying(A, flags=dns.flags.CD), "A"),
    "an authentic denial": (replying(authority=[SOA], flags=dns.flags.AD, rcode=3), "A"),
    "with an option": (replying(A, options=[dns.edns.EDEOption(dns.edns.EDECode.STALE_ANSWER, "old")]), "A"),
}  # fmt: skip
every_query = pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="no EDNS"),
        pytest.param({"flags": dns.flags.AD}, id="AD"),
        pytest.param({"use_edns": 0, "payload": 1232}, id="EDNS"),
        pytest.param({"use_edns": 0, "payload": 100}, id="EDNS of few octets"),
        pytest.param({"want_dnssec": True, "payload": 4096}, id="DO"),
        pytest.param({"want_dnssec": True, "flags": dns.flags.AD}, id="DO and AD"),
    ],
)


@every_query
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(PLAIN, id="as they stand"), pytest.param(BALANCED, id="balanced"), pytest.param(STOCK, id="stock"),
        pytest.param(UNCACHED, id="without a cache"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("respond", "rtype"), [pytest.param(*value, id=key) for key, value in REPLIES.items()])
async def test_simple_replies(respond: Respond, rtype: str, body: str, options: dict[str, Any]) -> None:
    """Fast path and chain give the same reply, from the upstream and from the cache.

    Without a cache, each query goes to the upstream, and the chain passes the upstream's EDNS options on.
    """
    packet = query(rtype=rtype, **options)
    fast, slow = await both_ways(body, respond, packet, packet, packet, ordered=body in (PLAIN, UNCACHED))
    if body is not UNCACHED:
        assert_same(fast, slow, 1)
    elif respond is REPLIES["with an option"][0] and (options.keys() & {"use_edns", "want_dnssec"}):
        assert_same(fast, slow, 0)
    else:
        assert_same(fast, slow, 3)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({}, id="not asked for"),
        pytest.param({"flags": dns.flags.AD}, id="asked for"),
        pytest.param({"want_dnssec": True}, id="DO"),
    ],
)
@pytest.mark.parametrize("said", [True, False])
async def test_authentic_data(asked: dict[str, Any], said: bool) -> None:
    """A client that sets AD gets AD (RFC 6840 §5.7) if the upstream sets it."""
    async with ScriptedUpstream(replying(A, flags=dns.flags.AD if said else 0)) as upstream:
        with Outside(PLAIN, upstream) as outside:
            reply = dns.message.from_wire(await outside.ask(query(**asked)))
            assert bool(reply.flags & dns.flags.AD) == (said and bool(asked))
            assert outside.on_fast_path == 1


async def test_addresses_are_shuffled_with_loadbalance() -> None:
    """Addresses stay after the CNAME records. Without *loadbalance*, they have the upstream's order."""
    lines = (*CHAIN, *[f"b.example.org. 60 IN A 192.0.2.{number}" for number in (3, 1, 2)])
    async with ScriptedUpstream(replying(*lines)) as upstream:
        for body, orders in ((BALANCED, 6), (PLAIN, 1)):
            seen = set()
            with Outside(body, upstream) as outside:
                for number in range(100):
                    upstream.respond = replying(*[line.replace("www", f"w{number}") for line in lines])
                    reply = dns.message.from_wire(await outside.ask(query(f"w{number}.example.org.")))
                    assert [rrset.name.to_text() for rrset in reply.answer[:2]] == [
                        f"w{number}.example.org.",
                        "a.example.org.",
                    ]
                    seen.add(tuple(rdata.address for rdata in reply.answer[2]))
                assert outside.on_fast_path == 100
            assert len(seen) == orders
            assert {tuple(sorted(one)) for one in seen} == {("192.0.2.1", "192.0.2.2", "192.0.2.3")}


RAW = {
    "an alias in full": made.reply(*made.aliases(made.FULL)[0], made.address(made.pointer(made.START + 12))),
    "an alias in the zone in full": made.reply(
        *made.aliases(b"\4edge\7example\3org\0")[0], made.address(made.pointer(made.START + 12))
    ),
    "a SOA in full": made.reply(
        authority=[made.soa(made.ZONE, b"\2ns\7example\3org\0\4host\7example\3org\0" + made.NUMBERS)],
        flags=made.NXDOMAIN,
    ),
    "an OPT that nobody asked for": made.reply(made.address(), additional=[made.opt()]),
    "reserved bits": made.reply(made.address(), flags=made.FLAGS | 0x40),
    "a SOA that has part of its TTL for a name": made.reply(
        authority=[made.soa(rdata=made.pointer(made.START + 9) + b"\0" + made.NUMBERS, ttl=0)]
    ),
}


@pytest.mark.parametrize("packet", [pytest.param(packet, id=name) for name, packet in RAW.items()])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(PLAIN, id="as they stand"),
        pytest.param(BALANCED, id="balanced"),
        pytest.param(UNCACHED, id="without a cache"),
    ],
)
async def test_replies_as_other_servers_encode_them(packet: bytes, body: str) -> None:
    """Upstreams encode replies with and without name compression, and with unusual values."""
    fast, slow = await both_ways(
        body, lambda asked, _: asked.id.to_bytes(2, "big") + packet[2:], *[query()] * 4, ordered=body is not BALANCED
    )
    for seen in (fast, slow):
        for name in [name for name in seen.increments if name[0] == "coredns_dns_response_size_bytes"]:
            del seen.increments[name]
    assert_same(fast, slow, fast.on_fast_path)


async def test_replies_with_the_same_compression_are_equal_octets() -> None:
    for respond, rtype in REPLIES.values():
        async with ScriptedUpstream(respond) as upstream:
            wires = []
            for fast in (True, False):
                with Outside(PLAIN, upstream, fast=fast) as outside:
                    wires.append(await outside.ask(query(rtype=rtype, use_edns=0)))
            assert wires[0] == wires[1]


@pytest.mark.parametrize(
    ("respond", "options", "cut"),
    [
        pytest.param(replying(*MANY), {}, True, id="without EDNS"),
        pytest.param(replying(*MANY), {"use_edns": 0, "payload": 600}, True, id="more than fits"),
        pytest.param(replying(*MANY), {"use_edns": 0, "payload": 1232}, False, id="as much as fits"),
        pytest.param(replying(*MANY, *[line.replace("192", "198") for line in MANY], *[line.replace("192", "203") for line in MANY]),
                     {"use_edns": 0, "payload": 4096}, False, id="more than a batch takes"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("body", [pytest.param(PLAIN, id="as they stand"), pytest.param(BALANCED, id="balanced")])
async def test_large_replies(respond: Respond, options: dict[str, Any], cut: bool, body: str) -> None:
    """A reply that is too large for the client is truncated, but is cached completely."""
    packet = query(**options)
    ordered = body is PLAIN
    fast, slow = await both_ways(body, respond, packet, packet, ordered=ordered)
    if not ordered and cut:
        for seen in (fast, slow):
            seen.replies[:] = [[line for line in reply if " IN A " not in line] for reply in seen.replies]
    assert_same(fast, slow, 0 if cut else 1)
    assert [("TC" in reply[0].split()) for reply in fast.replies] == [cut, cut]
    [entry] = fast.entries.values()
    assert len(entry[1].answer) >= 40


async def test_a_reply_too_large_for_a_batch_is_sent_separately() -> None:
    lines = [f"{NAME} 60 IN A 192.0.2.{number}" for number in range(120)]
    async with ScriptedUpstream(replying(*lines)) as upstream:
        with Outside(PLAIN, upstream) as outside:
            wire = await outside.ask(query(use_edns=0, payload=4096))
            assert len(wire) > REPLY_SIZE
            assert outside.on_fast_path == 1


@pytest.mark.parametrize(
    "respond",
    [
        pytest.param(replying(A, additional=["mail.example.org. 60 IN A 192.0.2.9"]), id="an additional record"),
        pytest.param(replying(A, f"{NAME} 60 IN MX 10 mail.example.org."), id="another type beside it"),
        pytest.param(replying(A, authority=["example.org. 60 IN NS ns.example.org."]), id="an authority"),
        pytest.param(replying(f"{NAME} 60 IN AAAA 2001:db8::1"), id="another type"),
        pytest.param(replying("other.example.org. 60 IN A 192.0.2.1"), id="another name"),
        pytest.param(replying(CHAIN[0]), id="an alias to nothing"),
        pytest.param(replying(CHAIN[0], authority=[SOA]), id="an alias to a denial"),
        pytest.param(replying(CHAIN[0], "a.example.org. 60 IN CNAME www.example.org."), id="aliases in a circle"),
        pytest.param(replying(A, flags=dns.flags.TC), id="truncated"),
        pytest.param(replying(flags=dns.flags.TC), id="truncated to nothing"),
        pytest.param(replying(), id="nothing at all"),
        pytest.param(replying(authority=["example.org. 60 IN NS ns.example.org."]), id="a referral"),
        pytest.param(
            replying(authority=["example.com. 60 IN SOA ns. host. 1 2 3 4 5"], rcode=3), id="a SOA of elsewhere"
        ),
        pytest.param(replying(authority=[SOA, "example.org. 60 IN TXT a"], rcode=3), id="a denial with more in it"),
        pytest.param(replying(rcode=3), id="a denial without a SOA"),
        *[
            pytest.param(replying(rcode=rcode), id=dns.rcode.to_text(rcode))
            for rcode in map(dns.rcode.Rcode, (1, 2, 4, 5, 6, 9))
        ],
        *[
            pytest.param(header_alone(rcode), id=f"{dns.rcode.to_text(rcode)} without a question section")
            for rcode in map(dns.rcode.Rcode, (1, 2, 4, 5))
        ],
        pytest.param(replying(A, rcode=2), id="an answer that failed"),
        pytest.param(replying(A, spelled=str.upper), id="another spelling"),
        pytest.param(replying(authority=[SOA], rcode=3, spelled=str.swapcase), id="a denial in another spelling"),
        pytest.param(replying(A.replace("www", "wWw")), id="an owner in another spelling"),
        pytest.param(replying(CHAIN[0].upper(), "A.EXAMPLE.ORG. 60 IN A 192.0.2.1"), id="aliases in capitals"),
    ],
)
@pytest.mark.parametrize("packet", [pytest.param(packet, id=name) for name, packet in QUERIES.items()])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(PLAIN, id="as they stand"),
        pytest.param(STOCK, id="stock"),
        pytest.param(UNCACHED, id="without a cache"),
    ],
)
async def test_replies_that_are_not_simple(respond: Respond, packet: bytes, body: str) -> None:
    """The chain makes the reply, without a second query to the upstream."""
    fast, slow = await both_ways(body, respond, packet, packet, packet)
    assert_same(fast, slow, fast.on_fast_path)


async def test_names_are_cached_without_case() -> None:
    fast, slow = await both_ways(PLAIN, replying(A), query("WWW.example.ORG."), query(), query("www.EXAMPLE.org."))
    assert_same(fast, slow, 1)
    assert len(fast.asked) == 1


async def test_different_queries() -> None:
    """Query type and DO bit select different cache entries. The AD bit does not."""
    packets = [
        query(),
        query(rtype="AAAA"),
        query(want_dnssec=True),
        query(flags=dns.flags.AD),
        query(use_edns=0),
        query("b.example.org."),
    ]
    fast, slow = await both_ways(PLAIN, replying(authority=[SOA], rcode=3), *packets)
    assert_same(fast, slow, 4)
    assert len(fast.entries) == 4
