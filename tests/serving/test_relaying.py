"""The short way of outside names: it gives what the chain gives, keeps what that keeps, and counts alike."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from svcdns.chain.relay import Key, Leaving
from svcdns.serving.compiling import in_flight
from svcdns.serving.datagrams import REPLY_SIZE
from svcdns.serving.relaying import aboard, outbound
from svcdns.wire.codes import QR, RA, TC
from svcdns.wire.plain import Plain
from tests.support import plain_replies as made
from tests.support.desk import bound
from tests.support.outside import NAME, PLAIN, Outside, query, saying, shape
from tests.support.scripted_upstream import Respond, ScriptedUpstream, held, silence

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


class Seen(NamedTuple):
    """What clients, the upstream, the cache and the metrics see of one of the ways, and how many replies came the short way."""

    replies: list[list[str]]
    asked: list[tuple[Any, ...]]
    entries: dict[Any, Any]
    counts: dict[tuple[str, ...], tuple[float, ...]]
    relayed: int


async def both_ways(body: str, respond: Respond, *packets: bytes, ordered: bool = True) -> tuple[Seen, Seen]:
    """What the short and the long way do with these packets, one behind the other, some time apart."""
    out = []
    async with ScriptedUpstream(respond) as upstream:
        for short in (True, False):
            upstream.asked.clear()
            with Outside(body, upstream, short=short) as outside:
                replies = []
                for packet in packets:
                    replies.append(shape(await outside.ask(packet), ordered=ordered))
                    outside.clock.turn(4)
                asked = [(m.name, m.flags, m.rtype, m.edns, transport) for m, transport in upstream.asked]
                out.append(Seen(replies, asked, outside.entries(), outside.counts(), outside.relayed))
    return out[0], out[1]


def alike(short: Seen, long: Seen, relayed: int) -> None:
    """The ways do the same, so many replies having come the short way."""
    assert short.replies == long.replies
    assert short.asked == long.asked
    assert short.entries == long.entries
    assert short.counts == long.counts
    assert (short.relayed, long.relayed) == (relayed, 0)


# -- what comes back


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
        for name in [name for name in seen.counts if name[0] == "coredns_dns_response_size_bytes"]:
            del seen.counts[name]
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


# -- time, and others who ask


async def two_clients(outside: Outside, upstream: ScriptedUpstream, *packets: bytes) -> list[bytes]:
    """The replies to questions of clients of their own that are on their way together."""
    clients = [bound() for _ in packets]
    try:
        for client, packet in zip(clients, packets, strict=True):
            outside.send(packet, client)
        await upstream.question()
        while upstream.holds < len(upstream.asked):
            await asyncio.sleep(0)
        upstream.release()
        return [await outside.reply(client) for client in clients]
    finally:
        for client in clients:
            client.close()


async def together(body: str, respond: Respond, *packets: bytes) -> tuple[Seen, Seen]:
    """What the ways do with questions that are on their way together."""
    out = []
    async with ScriptedUpstream(held(respond)) as upstream:
        for short in (True, False):
            upstream.asked.clear()
            with Outside(body, upstream, short=short) as outside:
                replies = [shape(wire) for wire in await two_clients(outside, upstream, *packets)]
                out.append(
                    Seen(replies, [(m.name, m.edns) for m, _ in upstream.asked], outside.entries(), outside.counts(), outside.relayed)
                )
                assert in_flight() == 0
    return out[0], out[1]


@pytest.mark.parametrize(
    ("packets", "relayed"),
    [
        pytest.param([query(), query()], 2, id="spelled alike"),
        pytest.param([query(), query(flags=dns.flags.AD)], 2, id="one with AD"),
        pytest.param([query(), query("wWw.example.org.")], 1, id="spelled otherwise"),
        pytest.param([query("WWW.example.org."), query(), query("WWW.example.org.")], 2, id="the first spelled otherwise"),
    ],
)
@pytest.mark.parametrize(
    "respond",
    [
        pytest.param(saying(A), id="an address"),
        pytest.param(saying(authority=[SOA], rcode=3), id="a denial"),
        pytest.param(saying(A, additional=["x.example.org. 60 IN A 192.0.2.9"]), id="not plain"),
        pytest.param(saying(rcode=2), id="a failure"),
    ],
)
async def test_one_question_for_all(packets: Sequence[bytes], relayed: int, respond: Respond) -> None:
    """Who asks for the same meanwhile waits for the same reply, and gets it in the spelling of the upstream; each is counted."""
    short, long = await together(PLAIN, respond, *packets)
    plain = short.relayed > 0
    alike(short, long, relayed if plain else 0)
    assert len(short.asked) == 1


async def test_a_reply_too_large_for_two() -> None:
    """Each gets what fits."""
    for packets in ([query(), query()], [query(use_edns=0, payload=600), query(use_edns=0, payload=600)]):
        alike(*await together(PLAIN, saying(*MANY), *packets), 0)


@pytest.mark.parametrize("first", [0, 1])
async def test_the_long_way_and_the_short_one_meet(first: int) -> None:
    """Who asks for the same on the other way, here with an octet behind the question, waits for the same reply."""
    packets = (query(), query() + b"\0")
    short, long = await together(PLAIN, saying(A), packets[first], packets[1 - first])
    alike(short, long, 1)
    assert len(short.asked) == 1


async def test_too_many_at_once() -> None:
    """They are refused, on either way."""
    body = "prometheus\nerrors\ncache 30\nforward . {} {{\nmax_concurrent 1\n}}"
    for packets in ([query(), query("b.example.org.")], [query(use_edns=0), query(use_edns=0)]):
        short, long = await together(body, saying(A), *packets)
        alike(short, long, 1)
        assert [reply[1] for reply in short.replies] == ["0", str(int(dns.rcode.REFUSED))]


async def test_too_many_of_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are refused, whatever port they come from."""
    monkeypatch.setattr("svcdns.plugins.forward.handler.MAX_OF_CLIENT", 2)
    short, long = await together(PLAIN, saying(A), query(), query("b.example.org."), query())
    alike(short, long, 1)
    assert [reply[1] for reply in short.replies] == ["0", "0", str(int(dns.rcode.REFUSED))]


@pytest.mark.parametrize("packet", [pytest.param(packet, id=name) for name, packet in QUESTION.items()])
async def test_nobody_answers_in_time(packet: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """SERVFAIL, which is logged and not kept, and nothing is left on its way."""
    body = "prometheus\nerrors\ncache 30\nforward . {} {{\nmax_fails 0\n}}"
    out, logs = [], []
    async with ScriptedUpstream(silence) as upstream:
        for short in (True, False):
            caplog.clear()
            with Outside(body, upstream, short=short) as outside, caplog.at_level(logging.ERROR):
                outside.send(packet)
                await upstream.question()
                assert in_flight() == 1
                for _ in range(4):
                    await outside.turn(2)
                reply = shape(await outside.reply())
                out.append(Seen([reply], [], outside.entries(), outside.counts(), outside.relayed))
                logs.append([record.getMessage() for record in caplog.records])
                assert in_flight() == 0
    alike(out[0], out[1], 0)
    assert logs[0] == logs[1] != []


async def test_the_next_upstream() -> None:
    """One that fails is passed over: the short way is as long as the question needs."""
    async with ScriptedUpstream(saying(rcode=2)) as first, ScriptedUpstream(saying(A)) as second:
        with Outside("prometheus\ncache 30\nforward . {} {} {{\npolicy sequential\n}}", first, second) as outside:
            assert "www.example.org. 30 IN A 192.0.2.1" in shape(await outside.ask(query()))
            assert outside.relayed == 1
        second.respond = saying(authority=[SOA], rcode=3)
        body = "prometheus\ncache 30\nforward . {} {} {{\npolicy sequential\nfailover NXDOMAIN\n}}"
        with Outside(body, second, first) as outside:
            assert shape(await outside.ask(query()))[1] == "2"
            assert outside.relayed == 0


async def test_over_tcp_where_upstreams_want_it() -> None:
    """As long as the client came over UDP: with `force_tcp`, and where a reply of `prefer_udp` is cut off."""

    def cut(asked: dns.message.Message, transport: str) -> Any:
        return saying(*([] if transport == "udp" else [A]), flags=dns.flags.TC if transport == "udp" else 0)(asked, transport)

    for option, asked in (("force_tcp", 1), ("prefer_udp", 2)):
        body = "prometheus\ncache 30\nforward . {} {{\n" + option + "\n}}"
        short, long = await both_ways(body, cut, query(), query())
        alike(short, long, 1)
        assert len(short.asked) == asked


@pytest.fixture
async def failing(caplog: pytest.LogCaptureFixture) -> AsyncIterator[tuple[Outside, ScriptedUpstream]]:
    """A listener whose cache fails for the first reply that it is to keep, and an upstream that holds its replies."""
    async with ScriptedUpstream(held(saying(A))) as upstream:
        with Outside(PLAIN, upstream) as outside, caplog.at_level(logging.ERROR):
            relay, first = outside.route.relay, [True]
            assert relay is not None
            assert relay.keep is not None
            keep = relay.keep

            def broken(key: Key, plain: Plain) -> int:
                if first.pop() if first else False:
                    raise LookupError("broken")
                return keep(key, plain)

            relay.keep = broken
            yield outside, upstream


async def test_a_failure_does_not_spread(failing: tuple[Outside, ScriptedUpstream], caplog: pytest.LogCaptureFixture) -> None:
    """It is logged and counted; who waits for the same reply gets it."""
    outside, upstream = failing
    with bound() as client, bound() as other:
        outside.send(query(), client)
        outside.send(query(), other)
        await upstream.question()
        upstream.release()
        assert "www.example.org. 30 IN A 192.0.2.1" in shape(await outside.reply(other))
    assert outside.counts()["coredns_panics_total",] == (1.0,)
    assert in_flight() == 0
    assert "Recovered from a failure" in caplog.text


async def test_whom_a_failure_hits(failing: tuple[Outside, ScriptedUpstream]) -> None:
    """Is told, as by the chain."""
    outside, upstream = failing
    outside.send(query())
    await upstream.question()
    upstream.release()
    async with asyncio.timeout(1):
        assert shape(await outside.reply())[1] == "2"


async def test_a_failure_when_it_leaves(caplog: pytest.LogCaptureFixture) -> None:
    """Is told too: one bad question ends neither a batch nor the process."""
    async with ScriptedUpstream(saying(A)) as upstream:
        with Outside(PLAIN, upstream) as outside, caplog.at_level(logging.ERROR):
            relay = outside.route.relay
            assert relay is not None

            def ask(_: Leaving) -> None:
                raise LookupError("broken")

            relay.ask = ask
            try:
                assert shape(await outside.ask(query()))[1] == "2"
                assert in_flight() == 0
            finally:
                aboard.clear()


async def test_a_reply_for_a_socket_that_is_closed() -> None:
    """Goes nowhere: not through the socket that has the number of its descriptor now, either."""
    async with ScriptedUpstream(held(saying(A))) as upstream:
        with Outside(PLAIN, upstream) as outside, bound() as other:
            outside.send(query())
            await upstream.question()
            number = outside.sock.fileno()
            outside.sock.close()
            os.dup2(other.fileno(), number)
            try:
                upstream.release()
                async with asyncio.timeout(10):
                    while in_flight():
                        await asyncio.sleep(0)
                await asyncio.sleep(0)
                with pytest.raises(BlockingIOError):
                    outside.client.recv(512)
            finally:
                os.close(number)


# -- what goes this way, and what does not


def changed(packet: bytes, at: int, octets: bytes) -> bytes:
    """The packet with other octets from there on."""
    return packet[:at] + octets + packet[at + len(octets) :]


def named(name: bytes, tail: bytes = b"\0\1\0\1") -> bytes:
    """A question for a name, octet by octet."""
    return b"\0\7\1\0\0\1\0\0\0\0\0\0" + name + tail


OPT_AT = len(query())
WITH_OPT = query(use_edns=0)
OTHER_TYPES = ("NS", "CNAME", "SOA", "PTR", "MX", "TXT", "SRV", "DS", "HTTPS", "ANY", "AXFR")
LONGEST = b"\x3f" + b"a" * 63 + b"\x3f" + b"b" * 63 + b"\x3f" + b"c" * 63 + b"\x3d" + b"d" * 61 + b"\0"


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    """The stock Corefile, with an upstream that says that there is nothing."""
    async with ScriptedUpstream(saying(authority=[SOA], rcode=3)) as upstream:
        with Outside(STOCK, upstream) as served:
            yield served


@pytest.mark.parametrize(
    "packet",
    [
        *[pytest.param(packet, id=name) for name, packet in QUESTION.items()],
        pytest.param(query(rtype="AAAA"), id="AAAA"),
        pytest.param(query("a.b."), id="two labels"),
        pytest.param(query("WWW.Example.ORG."), id="capitals"),
        pytest.param(query("4.3.2.1.in-addr.arpa.example."), id="no reverse zone"),
        pytest.param(named(LONGEST), id="the longest name"),
        pytest.param(named(b"\1\0\1.\0"), id="odd octets"),
        pytest.param(named(b"\1\0\5\0\1\0\1\0\0"), id="a name like a question"),
        pytest.param(query(use_edns=0, payload=0), id="EDNS of no octets"),
    ],
)
async def test_what_takes_the_short_way(outside: Outside, packet: bytes) -> None:
    """Questions as clients ask them nearly always."""
    assert outbound(packet, outside.desk, 0.0) is not None


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
        pytest.param(query("a" * 63 + "."), id="a single long label"),
        pytest.param(query("cluster.local."), id="the cluster's zone"),
        pytest.param(query("web.default.svc.cluster.local."), id="a name of the cluster"),
        pytest.param(query("web.default.svc.CLUSTER.Local."), id="a name of the cluster in capitals"),
        pytest.param(query("1.0.0.10.in-addr.arpa."), id="a reverse zone"),
        pytest.param(query("1.ip6.arpa.", "AAAA"), id="an IPv6 reverse zone"),
        pytest.param(query() + b"\0", id="an octet behind"),
        pytest.param(WITH_OPT + b"\0", id="an octet behind the OPT"),
        pytest.param(WITH_OPT + bytes(11), id="octets behind the OPT"),
        pytest.param(named(b"\3www\7example\3org"), id="no root label"),
        pytest.param(named(b"\3www\7example\4org\0"), id="a label that is too long"),
        pytest.param(named(b"\3www\7example\2org\0"), id="a label that is too short"),
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
async def test_what_does_not(outside: Outside, packet: bytes) -> None:
    """Whatever is out of the ordinary is the chain's."""
    assert outbound(packet, outside.desk, 0.0) is None


async def test_no_packet_is_too_short_or_strange(outside: Outside) -> None:
    """Each is judged, and what goes the short way is a question that the chain could have read."""
    for packet in (*QUESTION.values(), query(rtype="AAAA"), named(b"\0")):
        for size in range(len(packet)):
            assert outbound(packet[:size], outside.desk, 0.0) is None
    for size in range(40):
        for octet in (0, 1, 0xFF):
            assert outbound(bytes((octet,)) * size, outside.desk, 0.0) is None
            assert outbound(b"\0\7\1\0\0\1\0\0\0\0\0\1" + bytes((octet,)) * size, outside.desk, 0.0) is None


async def test_names_that_the_cache_knows(outside: Outside) -> None:
    """Are its own, also when they have ended; others of the same name are not."""
    await outside.ask(query())
    for _ in range(2):
        assert outbound(query("WWW.example.org.", use_edns=0), outside.desk, 0.0) is None
        assert outbound(query(rtype="AAAA"), outside.desk, 0.0) is not None
        assert outbound(query(want_dnssec=True), outside.desk, 0.0) is not None
        outside.clock.turn(31)
    assert "www.example.org. IN A" in shape(await outside.ask(query()))
    assert outside.relayed == 1


async def test_while_there_is_a_loop(outside: Outside) -> None:
    """Everything goes through the chain, where `loop` answers; and the short way is open again when the loop is gone."""
    [told] = outside.on_data["loop", ". 127.0.0.1:53"]
    told(b"1.2. 127.0.0.1:1 -> 127.0.0.1:53")
    assert outbound(query(), outside.desk, 0.0) is None
    assert shape(await outside.ask(query()))[1] == "2"
    told(b"")
    assert shape(await outside.ask(query("b.example.org.")))[1] == "3"
    assert outside.relayed == 1


LEAKS = "prometheus\nkubernetes cluster.local example.net {{\n}}\ncache 30\nforward . {} {{\nleak_guard block\n}}"


@pytest.mark.parametrize("name", ["a.cluster.local.", "a.example.net.", "EXAMPLE.net."])
async def test_names_that_must_not_leave(name: str) -> None:
    """Are the chain's: those of the cluster, and those that look like it."""
    async with ScriptedUpstream(saying(A)) as upstream:
        for body in (
            LEAKS,
            "cache 30\nforward . {} {{\nleak_guard block\n}}",
            "cache 30\nforward . {}",
            "cache 30\nforward . {} {{\nleak_guard off\n}}",
        ):
            with Outside(body, upstream) as outside:
                may_leave = ("cluster.local" in name and body.endswith("off\n}}")) or ("net" in name and body is not LEAKS)
                assert (outbound(query(name), outside.desk, 0.0) is not None) == may_leave


async def test_zones_whose_replies_are_not_kept() -> None:
    """Are the chain's, for answers or denials."""
    async with ScriptedUpstream(saying(A)) as upstream:
        with Outside("cache 30 {{\ndisable success example.net\ndisable denial example.com\n}}\nforward . {}", upstream) as outside:
            found = [outbound(query(f"a.example.{zone}."), outside.desk, 0.0) is not None for zone in ("net", "com", "org")]
            assert found == [False, False, True]


# -- blocks


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("forward . {}", id="no cache"),
        pytest.param("cache 30", id="no forward"),
        pytest.param("cache 30\nwhoami", id="another that answers"),
        pytest.param("log\n" + PLAIN, id="log"),
        pytest.param("rewrite name a.example.org. b.example.org.\n" + PLAIN, id="rewrite"),
        pytest.param("cache 30 example.org\nforward . {}", id="a cache of one zone"),
        pytest.param("cache 30 {{\nconfirm_denials\n}}\nforward . {}", id="denials in doubt"),
        pytest.param("cache 30\nforward . {} {{\nnext NXDOMAIN\n}}\nforward . 127.0.0.1:1", id="a line that hands on"),
        pytest.param("cache 30\nforward . {} {{\nnext_on_nodata\n}}\nforward . 127.0.0.1:1", id="a line that hands nothing on"),
        pytest.param("cache 30\nforward example.org {}\nforward . 127.0.0.1:1", id="a line for one zone first"),
        pytest.param("cache 30\nforward example.org {}", id="a line for one zone"),
        pytest.param("cache 30\nforward . {} {{\nexcept example.org\n}}", id="exceptions"),
        pytest.param("hosts {{\n192.0.2.1 a.example.org\nfallthrough\n}}\n" + PLAIN, id="hosts"),
        pytest.param("loadbalance round_robin {{\nprefer 10.0.0.0/8\n}}\n" + PLAIN, id="preferred addresses"),
        pytest.param("acl {{\nallow net 10.0.0.0/8\n}}\n" + PLAIN, id="acl"),
        pytest.param("minimal\n" + PLAIN, id="minimal"),
        pytest.param("header {{\nresponse set aa\n}}\n" + PLAIN, id="header"),
        pytest.param("bufsize 512\n" + PLAIN, id="bufsize"),
        pytest.param("nsid a\n" + PLAIN, id="nsid"),
        pytest.param("any\n" + PLAIN, id="any"),
        pytest.param("local\n" + PLAIN, id="local"),
        pytest.param("chaos\n" + PLAIN, id="chaos"),
        pytest.param("template IN A example.org {{\nrcode NXDOMAIN\n}}\n" + PLAIN, id="template"),
    ],
)
async def test_blocks_without_a_short_way(body: str) -> None:
    """Where somebody else has something to say, or wants to see every query."""
    async with ScriptedUpstream(saying(A)) as upstream:
        with Outside(body, upstream) as outside:
            assert outside.route.relay is None
            assert outbound(query(), outside.desk, 0.0) is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(PLAIN, id="plain"),
        pytest.param(STOCK, id="stock"),
        pytest.param("cache\nforward . {}", id="two"),
        pytest.param("loadbalance round_robin\ncache 30 . example.org\nforward . {}", id="a cache of several zones"),
        pytest.param("cache 30\nforward . {}\nforward . 127.0.0.1:1", id="a second line that nothing comes to"),
    ],
)
async def test_blocks_with_a_short_way(body: str) -> None:
    """Counted or not."""
    short, long = await both_ways(body, saying(A), query(), query())
    alike(short, long, 1)


async def test_names_of_other_blocks() -> None:
    """Each block has its own way, and none where there is no block."""
    async with ScriptedUpstream(saying(A)) as upstream:
        with Outside(PLAIN + "\n}}\nexample.org {{\nwhoami\n}}\na.example.org {{\ncache 30 .\nforward . 127.0.0.1:1", upstream) as outside:
            found = [
                outbound(query(name), outside.desk, 0.0) is not None for name in ("example.com.", "b.example.org.", "b.A.example.org.")
            ]
            assert found == [True, False, True]
            outside.listener.routes.clear()
            assert outbound(query(), outside.desk, 0.0) is None
