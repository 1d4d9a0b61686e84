"""The short way of outside names gives what the chain gives, keeps what that keeps, and counts alike."""

from __future__ import annotations

from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from svcdns.serving.transport.udp_batch import REPLY_SIZE
from tests.support import plain_replies as made
from tests.support.outside import NAME, PLAIN, Outside, alike, both_ways, query, saying
from tests.support.scripted_upstream import Respond, ScriptedUpstream

A = f"{NAME} 300 IN A 192.0.2.1"
MANY = tuple(f"{NAME} 300 IN A 192.0.2.{number}" for number in range(1, 41))
"""More than 512 octets, and less than 1232."""
SOA = "example.org. 90 IN SOA ns.example.org. host.example.org. 1 7200 3600 1209600 60"
BALANCED = "loadbalance\n" + PLAIN
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
QUESTION = {"one": query(), "AD": query(flags=dns.flags.AD), "EDNS": query(use_edns=0), "DO": query(want_dnssec=True)}


@pytest.mark.parametrize(
    ("respond", "ttl"),
    [
        pytest.param(saying(A), 30, id="longer than is kept"),
        pytest.param(saying(f"{NAME} 20 IN A 192.0.2.1"), 20, id="as it is"),
        pytest.param(saying(f"{NAME} 1 IN A 192.0.2.1"), 5, id="shorter than is kept"),
        pytest.param(saying(f"{NAME} 0 IN A 192.0.2.1"), 5, id="none"),
        pytest.param(saying("www.example.org. 20 IN CNAME a.org.", "a.org. 15 IN A 192.0.2.1"), 15, id="the smallest"),
        pytest.param(saying(authority=[SOA], rcode=3), 30, id="a denial's"),
        pytest.param(saying(authority=[SOA.replace("90", "2", 1)]), 5, id="a denial's, shorter than is kept"),
    ],
)
async def test_ttls_are_those_of_the_cache(respond: Respond, ttl: int) -> None:
    """In every record, from the first reply on."""
    short, long = await both_ways(PLAIN, respond, query(), query(), query())
    alike(short, long, 1)
    shown = [{int(line.split()[1]) for line in reply if " IN A " in line or " SOA " in line} for reply in short.replies]
    assert shown[:2] == [{ttl}, {ttl - 4}]


@pytest.mark.parametrize(
    ("options", "respond", "ttl"),
    [
        pytest.param("success 1024 3600 100", saying(f"{NAME} 20 IN A 192.0.2.1"), 100, id="at least"),
        pytest.param("success 1024 3600 0", saying(f"{NAME} 0 IN A 192.0.2.1"), 0, id="not kept at all"),
        pytest.param("success 1024 3600", saying(A), 300, id="at most"),
        pytest.param("denial 1024 40", saying(authority=[SOA]), 40, id="denials at most"),
        pytest.param("denial 1024 1000 200", saying(authority=[SOA], rcode=3), 200, id="denials at least"),
        pytest.param("denial 1024 1000 0", saying(authority=[SOA.replace("90", "0", 1)], rcode=3), 0, id="denials not kept at all"),
        pytest.param("keepttl", saying(A), 3600, id="kept as they are"),
        pytest.param("serve_stale 1h verify\nserve_stale_policy prefer_positive", saying(A), 3600, id="beside stale answers"),
        pytest.param("prefetch 1", saying(A), 3600, id="with prefetching"),
    ],
)
async def test_bounds_of_ttls(options: str, respond: Respond, ttl: int) -> None:
    """By the options of the cache."""
    body = "prometheus\ncache {{\n" + options + "\n}}\nforward . {}"
    short, long = await both_ways(body, respond, query(), query(), query())
    alike(short, long, 3 if not ttl else 1)
    records = [line for line in short.replies[0] if " IN A " in line or " SOA " in line]
    assert {int(line.split()[1]) for line in records} == {min(ttl, 300)}
    assert len(short.entries) == (ttl > 0)


CHAIN = ("www.example.org. 60 IN CNAME a.example.org.", "a.example.org. 50 IN CNAME b.example.org.")
REPLIES = {
    "an address": (saying(A), "A"),
    "an IPv6 address": (saying(f"{NAME} 60 IN AAAA 2001:db8::1"), "AAAA"),
    "addresses": (saying(*MANY[:5]), "A"),
    "an alias": (saying(CHAIN[0], "a.example.org. 60 IN A 192.0.2.1"), "A"),
    "aliases": (saying(*CHAIN, *[f"b.example.org. 60 IN AAAA 2001:db8::{number}" for number in range(1, 5)]), "AAAA"),
    "no such name": (saying(authority=[SOA], rcode=3), "A"),
    "nothing of this type": (saying(authority=[SOA]), "AAAA"),
    "authoritative": (saying(A, flags=dns.flags.AA), "A"),
    "authentic": (saying(A, flags=dns.flags.AD), "A"),
    "checking disabled": (saying(A, flags=dns.flags.CD), "A"),
    "an authentic denial": (saying(authority=[SOA], flags=dns.flags.AD, rcode=3), "A"),
    "with an option": (saying(A, options=[dns.edns.EDEOption(dns.edns.EDECode.STALE_ANSWER, "old")]), "A"),
}  # fmt: skip
every_question = pytest.mark.parametrize(
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


@every_question
@pytest.mark.parametrize(
    "body", [pytest.param(PLAIN, id="as they stand"), pytest.param(BALANCED, id="balanced"), pytest.param(STOCK, id="stock")]
)
@pytest.mark.parametrize(("respond", "rtype"), [pytest.param(*value, id=key) for key, value in REPLIES.items()])
async def test_plain_replies(respond: Respond, rtype: str, body: str, options: dict[str, Any]) -> None:
    """To every kind of question that goes this way, the first time and from the cache."""
    packet = query(rtype=rtype, **options)
    alike(*await both_ways(body, respond, packet, packet, packet, ordered=body is PLAIN), 1)


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
    """AD is for those who ask for it (RFC 6840 §5.7), if the upstream says it."""
    async with ScriptedUpstream(saying(A, flags=dns.flags.AD if said else 0)) as upstream:
        with Outside(PLAIN, upstream) as outside:
            reply = dns.message.from_wire(await outside.ask(query(**asked)))
            assert bool(reply.flags & dns.flags.AD) == (said and bool(asked))
            assert outside.relayed == 1


async def test_addresses_are_shuffled_where_they_are_balanced() -> None:
    """All of them, behind their aliases, into every order; without `loadbalance` they stand as they came."""
    lines = (*CHAIN, *[f"b.example.org. 60 IN A 192.0.2.{number}" for number in (3, 1, 2)])
    async with ScriptedUpstream(saying(*lines)) as upstream:
        for body, orders in ((BALANCED, 6), (PLAIN, 1)):
            seen = set()
            with Outside(body, upstream) as outside:
                for number in range(100):
                    upstream.respond = saying(*[line.replace("www", f"w{number}") for line in lines])
                    reply = dns.message.from_wire(await outside.ask(query(f"w{number}.example.org.")))
                    assert [rrset.name.to_text() for rrset in reply.answer[:2]] == [f"w{number}.example.org.", "a.example.org."]
                    seen.add(tuple(rdata.address for rdata in reply.answer[2]))
                assert outside.relayed == 100
            assert len(seen) == orders
            assert {tuple(sorted(one)) for one in seen} == {("192.0.2.1", "192.0.2.2", "192.0.2.3")}


RAW = {
    "an alias in full": made.reply(*made.aliases(made.FULL)[0], made.address(made.pointer(made.START + 12))),
    "an alias in the zone in full": made.reply(*made.aliases(b"\4edge\7example\3org\0")[0], made.address(made.pointer(made.START + 12))),
    "a SOA in full": made.reply(
        authority=[made.soa(made.ZONE, b"\2ns\7example\3org\0\4host\7example\3org\0" + made.NUMBERS)], flags=made.NXDOMAIN
    ),
    "an OPT that nobody asked for": made.reply(made.address(), additional=[made.opt()]),
    "options that cannot be read": made.reply(made.address(), additional=[made.opt(b"\0\x0a\0\x08")]),
    "a SOA that is too short": made.reply(authority=[made.soa(rdata=made.SOA_DATA[:-1])], flags=made.NXDOMAIN),
    "an address that is too short": made.reply(made.address(), made.address(last=2), made.record(made.OWNER, 1, b"\xc0")),
    "reserved bits": made.reply(made.address(), flags=made.FLAGS | 0x40),
    "a SOA that has part of the OPT for a name": made.reply(
        authority=[made.soa(rdata=made.pointer(made.START + 11) + b"\0" + made.NUMBERS)], additional=[made.opt()]
    ),
    "a SOA that has part of its TTL for a name": made.reply(
        authority=[made.soa(rdata=made.pointer(made.START + 9) + b"\0" + made.NUMBERS, ttl=0)]
    ),
}


@pytest.mark.parametrize("packet", [pytest.param(packet, id=name) for name, packet in RAW.items()])
@pytest.mark.parametrize("body", [pytest.param(PLAIN, id="as they stand"), pytest.param(BALANCED, id="balanced")])
async def test_replies_as_others_write_them(packet: bytes, body: str) -> None:
    """Names in full or as pointers, and what makes little sense. The chain compresses names anew, so lengths may differ."""
    short, long = await both_ways(body, lambda asked, _: asked.id.to_bytes(2, "big") + packet[2:], *[query()] * 4, ordered=body is PLAIN)
    for seen in (short, long):
        for name in [name for name in seen.increments if name[0] == "coredns_dns_response_size_bytes"]:
            del seen.increments[name]
    alike(short, long, short.relayed)


async def test_a_reply_of_the_same_length() -> None:
    """To the octet what the chain would send, where the upstream compresses names as we do."""
    for respond, rtype in REPLIES.values():
        async with ScriptedUpstream(respond) as upstream:
            wires = []
            for short in (True, False):
                with Outside(PLAIN, upstream, short=short) as outside:
                    wires.append(await outside.ask(query(rtype=rtype, use_edns=0)))
            assert wires[0] == wires[1]


@pytest.mark.parametrize(
    ("respond", "options", "cut"),
    [
        pytest.param(saying(*MANY), {}, True, id="without EDNS"),
        pytest.param(saying(*MANY), {"use_edns": 0, "payload": 600}, True, id="more than fits"),
        pytest.param(saying(*MANY), {"use_edns": 0, "payload": 1232}, False, id="as much as fits"),
        pytest.param(saying(*MANY, *[line.replace("192", "198") for line in MANY], *[line.replace("192", "203") for line in MANY]),
                     {"use_edns": 0, "payload": 4096}, False, id="more than a batch takes"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("body", [pytest.param(PLAIN, id="as they stand"), pytest.param(BALANCED, id="balanced")])
async def test_large_replies(respond: Respond, options: dict[str, Any], cut: bool, body: str) -> None:
    """Those that are larger than the client takes are cut off, and kept whole."""
    packet = query(**options)
    ordered = body is PLAIN
    short, long = await both_ways(body, respond, packet, packet, ordered=ordered)
    if not ordered and cut:
        for seen in (short, long):
            seen.replies[:] = [[line for line in reply if " IN A " not in line] for reply in seen.replies]
    alike(short, long, 0 if cut else 1)
    assert [("TC" in reply[0].split()) for reply in short.replies] == [cut, cut]
    [entry] = short.entries.values()
    assert len(entry[1].answer) >= 40


async def test_a_reply_that_is_alone_in_its_packet() -> None:
    """It has no room in a batch, and goes out by itself."""
    lines = [f"{NAME} 60 IN A 192.0.2.{number}" for number in range(120)]
    async with ScriptedUpstream(saying(*lines)) as upstream:
        with Outside(PLAIN, upstream) as outside:
            wire = await outside.ask(query(use_edns=0, payload=4096))
            assert len(wire) > REPLY_SIZE
            assert outside.relayed == 1


@pytest.mark.parametrize(
    "respond",
    [
        pytest.param(saying(A, additional=["mail.example.org. 60 IN A 192.0.2.9"]), id="an additional record"),
        pytest.param(saying(A, f"{NAME} 60 IN MX 10 mail.example.org."), id="another type beside it"),
        pytest.param(saying(A, authority=["example.org. 60 IN NS ns.example.org."]), id="an authority"),
        pytest.param(saying(f"{NAME} 60 IN AAAA 2001:db8::1"), id="another type"),
        pytest.param(saying("other.example.org. 60 IN A 192.0.2.1"), id="another name"),
        pytest.param(saying(CHAIN[0]), id="an alias to nothing"),
        pytest.param(saying(CHAIN[0], authority=[SOA]), id="an alias to a denial"),
        pytest.param(saying(CHAIN[0], "a.example.org. 60 IN CNAME www.example.org."), id="aliases in a circle"),
        pytest.param(saying(A, flags=dns.flags.TC), id="truncated"),
        pytest.param(saying(flags=dns.flags.TC), id="truncated to nothing"),
        pytest.param(saying(), id="nothing at all"),
        pytest.param(saying(authority=["example.org. 60 IN NS ns.example.org."]), id="a referral"),
        pytest.param(saying(authority=["example.com. 60 IN SOA ns. host. 1 2 3 4 5"], rcode=3), id="a SOA of elsewhere"),
        pytest.param(saying(authority=[SOA, "example.org. 60 IN TXT a"], rcode=3), id="a denial with more in it"),
        pytest.param(saying(rcode=3), id="a denial without a SOA"),
        *[pytest.param(saying(rcode=rcode), id=dns.rcode.to_text(rcode)) for rcode in map(dns.rcode.Rcode, (1, 2, 4, 5, 6, 9))],
        pytest.param(saying(A, rcode=2), id="an answer that failed"),
        pytest.param(saying(A, spelled=str.upper), id="another spelling"),
        pytest.param(saying(authority=[SOA], rcode=3, spelled=str.swapcase), id="a denial in another spelling"),
        pytest.param(saying(A.replace("www", "wWw")), id="an owner in another spelling"),
        pytest.param(saying(CHAIN[0].upper(), "A.EXAMPLE.ORG. 60 IN A 192.0.2.1"), id="aliases in capitals"),
    ],
)
@pytest.mark.parametrize("packet", [pytest.param(packet, id=name) for name, packet in QUESTION.items()])
@pytest.mark.parametrize("body", [pytest.param(PLAIN, id="as they stand"), pytest.param(STOCK, id="stock")])
async def test_replies_that_are_not_plain(respond: Respond, packet: bytes, body: str) -> None:
    """They go through the chain as they have come, and the upstream is not asked again for that."""
    short, long = await both_ways(body, respond, packet, packet, packet)
    alike(short, long, short.relayed)


async def test_what_is_asked_and_kept_is_one_name() -> None:
    """However clients spell it: who asks next gets what is kept."""
    short, long = await both_ways(PLAIN, saying(A), query("WWW.example.ORG."), query(), query("www.EXAMPLE.org."))
    alike(short, long, 1)
    assert len(short.asked) == 1


async def test_questions_side_by_side() -> None:
    """Types and DO bits are kept apart; AD is not."""
    packets = [query(), query(rtype="AAAA"), query(want_dnssec=True), query(flags=dns.flags.AD), query(use_edns=0), query("b.example.org.")]
    short, long = await both_ways(PLAIN, saying(authority=[SOA], rcode=3), *packets)
    alike(short, long, 4)
    assert len(short.entries) == 4
