"""A fault for each check of the conformance suite: wrong behaviour of a server that the check must find."""

from __future__ import annotations

from collections.abc import Callable

import dns.edns
import dns.flags
import dns.rcode
import dns.rdatatype
import dns.rrset

from svcdns.conformance.checks.isc import TESTS, Test
from tests.conformance.model import ZONE, Fault, Reply, Zone

NS = "lab"
OWN = f".{NS}.svc.{ZONE}"


def named(service: str) -> str:
    """Returns the name of a Service in the lab's namespace."""
    return service + OWN


def data(name: str, rtype: str, *texts: str) -> Fault:
    """Returns a fault that replaces the data at a name."""
    return Fault(zone=lambda zone: zone.update({(name, rtype): list(texts)}))


def removed(name: str, rtype: str) -> Fault:
    """Returns a fault that removes a record set. The name still exists."""
    return Fault(zone=lambda zone: zone.update({(name, "NONE"): zone.pop((name, rtype), [])}))


def incomplete(name: str, rtype: str) -> Fault:
    """Returns a fault that removes one record of a set."""
    return Fault(zone=lambda zone: zone[name, rtype].pop())


def ptr_records(where: Callable[[str], bool], text: str) -> Fault:
    """Returns a fault that replaces PTR records. `where` gets a target, and returns True if its record is replaced."""

    def edit(zone: Zone) -> None:
        for key, texts in zone.items():
            if key[1] == "PTR" and any(map(where, texts)):
                zone[key] = [text]

    return Fault(zone=edit)


def when(which: Callable[[Reply], object], change: Callable[[Reply], object]) -> Fault:
    """Returns a fault that applies `change` to the replies for which `which` returns True."""

    def edit(reply: Reply, _transport: str) -> Reply:
        if which(reply):
            change(reply)
        return reply

    return Fault(reply=edit)


def for_names(*names: str, rtype: str = "") -> Callable[[Reply], bool]:
    """Returns a condition for queries whose name contains one of `names`. If `rtype` is given, the type must match,
    too.
    """

    def which(reply: Reply) -> bool:
        question = reply.question[0]
        return any(n in question.name.to_text().lower() for n in names) and rtype in (
            "",
            dns.rdatatype.to_text(question.rdtype),
        )

    return which


def record(text: str) -> Callable[[Reply], None]:
    """Returns a change that makes the answer a single record with NOERROR. The record is given as type and data."""

    def add(reply: Reply) -> None:
        rtype, _, rest = text.partition(" ")
        reply.set_rcode(dns.rcode.NOERROR)
        reply.answer = [dns.rrset.from_text(reply.question[0].name, 5, "IN", rtype, rest)]

    return add


def rcode(number: int) -> Callable[[Reply], None]:
    """Returns a change that sets another rcode."""
    return lambda reply: reply.set_rcode(dns.rcode.Rcode.make(number))


def flag(bit: int) -> Callable[[Reply], None]:
    """Returns a change that inverts a header bit."""

    def toggle(reply: Reply) -> None:
        reply.flags ^= bit

    return toggle


def octets(change: Callable[[bytearray], object], which: Callable[[bytes, str], object] = lambda *_: True) -> Fault:
    """Returns a fault that changes the octets of replies."""

    def edit(query: bytes, reply: bytes | None, transport: str) -> bytes | None:
        if reply is None or not which(query, transport):
            return reply
        copy = bytearray(reply)
        change(copy)
        return bytes(copy)

    return Fault(packet=edit)


def no_reply(which: Callable[[bytes, str], object]) -> Fault:
    """Returns a fault that drops the queries for which `which` returns True."""
    return Fault(packet=lambda query, reply, transport: None if which(query, transport) else reply)


def replace(which: Callable[[bytes, str], object], reply: Callable[[bytes], bytes]) -> Fault:
    """Returns a fault that answers the queries for which `which` returns True with the octets from `reply`."""
    return Fault(packet=lambda query, right, transport: reply(query) if which(query, transport) else right)


def noerror_header(query: bytes) -> bytes:
    """Returns a header with NOERROR, followed by the rest of the query."""
    return query[:2] + b"\x80\0" + query[4:6] + bytes(6) + query[12:]


def isc(test: Test) -> Fault:
    """Returns a fault that answers the query of one of ISC's checks with FORMERR."""
    expected = test.asked(ZONE).packet(0)[2:]
    return replace(lambda query, transport: query[2:] == expected and (transport == "tcp") == test.query.tcp, formerr)


def formerr(query: bytes) -> bytes:
    """Returns a header with FORMERR, and the opcode of the query."""
    return query[:2] + bytes((0x80 | query[2] & 0x78, 1)) + bytes(8)


def with_size_of_query(query: bytes, reply: bytes | None, _transport: str) -> bytes | None:
    """Returns the reply with the UDP payload size of the query. Both must have an OPT record without options."""
    if reply is None or query[-11:-8] != b"\0\0\x29" or reply[-11:-8] != b"\0\0\x29":
        return reply
    return reply[:-8] + query[-8:-6] + reply[-6:]


def with_bad_cookie(query: bytes) -> bytes:
    """Returns the query as a reply with NOERROR and a cookie of a wrong size."""
    return query[:2] + b"\x80\0" + query[4:]


def nxdomain(reply: Reply) -> bool:
    return reply.rcode() == 3


def negative(reply: Reply) -> bool:
    """Returns True if the reply has no answer records."""
    return not reply.answer


def with_edns(reply: Reply) -> bool:
    """Returns True for a reply to a query with EDNS."""
    return reply.edns >= 0


def no_edns(reply: Reply) -> None:
    reply.use_edns(False)


def option(number: int, content: bytes = b"") -> Callable[[Reply], None]:
    """Returns a change that adds an EDNS option."""
    return lambda reply: reply.use_edns(
        0, ednsflags=reply.ednsflags, options=[dns.edns.GenericOption(dns.edns.OptionType.make(number), content)]
    )


def edns_flags(bits: int) -> Callable[[Reply], None]:
    """Returns a change that sets reserved EDNS flags."""
    return lambda reply: reply.use_edns(0, ednsflags=bits)


def soa_ttl(reply: Reply) -> None:
    """Raises the SOA record's TTL above its MINIMUM field."""
    for rrset in reply.authority:
        rrset.ttl = 3600


def two_ttls(reply: Reply) -> None:
    """Gives the records of an RRset two different TTLs."""
    first = reply.answer[0]
    reply.answer.append(dns.rrset.from_text(first.name, first.ttl + 1, "IN", "A", "10.0.0.1"))


def lower(packet: bytearray) -> None:
    """Changes the question to lower case."""
    packet[12:] = bytes(packet[12:]).lower()


def rtype_of(query: bytes) -> int:
    """Returns the type of a query's question, or 0 without a question."""
    at = 12
    while at < len(query) and query[at]:
        at += 1 + query[at]
    return int.from_bytes(query[at + 1 : at + 3], "big")


def opcode(query: bytes) -> int:
    """Returns the opcode of a query, or 0 if the query is too short."""
    return query[2] >> 3 & 15 if len(query) > 2 else 0


def keeps_query_bit(bit: int) -> Fault:
    """Returns a fault that copies a header bit of the query into the reply."""

    def edit(query: bytes, reply: bytes | None, _transport: str) -> bytes | None:
        if reply is None or not int.from_bytes(query[2:4], "big") & bit:
            return reply
        return reply[:2] + (int.from_bytes(reply[2:4], "big") | bit).to_bytes(2, "big") + reply[4:]

    return Fault(packet=edit)


def truncated_without_tc(reply: Reply, transport: str) -> Reply:
    """Cuts long answers to 20 records without setting TC."""
    if len(reply.answer) == 1 and len(reply.answer[0]) > 20:
        first = reply.answer[0]
        keep = list(first)[:20]
        reply.answer = [dns.rrset.from_rdata_list(first.name, first.ttl, keep)]
    return reply


def tcp_differs(number: int) -> Fault:
    """Returns a fault that sends another rcode over TCP than over UDP."""

    def edit(reply: Reply, transport: str) -> Reply:
        if transport == "tcp":
            reply.set_rcode(dns.rcode.Rcode.make(number))
        return reply

    return Fault(reply=edit)


def after_third(query_count: dict[int, int]) -> Callable[[bytes, str], bool]:
    """Returns a condition that is true for TCP queries after the third."""

    def which(_query: bytes, transport: str) -> bool:
        query_count[0] = query_count.get(0, 0) + (transport == "tcp")
        return transport == "tcp" and query_count[0] > 3

    return which


UNNAMED = "198-18-7-13"

FAULTS: dict[str, Fault] = {
    "dns-version": data(f"dns-version.{ZONE}", "TXT", '"one"'),
    "kubernetes-service": removed(f"kubernetes.default.svc.{ZONE}", "A"),
    "clusterip-a": data(named("cluster"), "A", "10.9.9.9", "10.96.1.2"),
    "clusterip-aaaa": data(named("dual"), "AAAA", "fd00::9999"),
    "dual-stack": removed(named("dual"), "AAAA"),
    "nodeport-a": data(named("nodeport"), "A", "192.0.2.1"),
    "loadbalancer-a": data(named("loadbalancer"), "A", "203.0.113.1"),
    "clusterip-srv": data("_http._tcp." + named("cluster"), "SRV", f"0 100 8080 {named('cluster')}"),
    "clusterip-ptr": ptr_records(lambda target: target == named("cluster"), "wrong.example."),
    "clusterip-ptr-ipv6": Fault(
        zone=lambda zone: [zone.pop(key) for key in list(zone) if key[0].endswith(".ip6.arpa.")]
    ),
    "externalname-cname": data(named("external"), "CNAME", "other.conformance.invalid."),
    "externalname-a": when(for_names("external.", rtype="A"), lambda reply: reply.answer.clear()),
    "pod-a": when(for_names(".pod."), record("A 10.0.0.9")),
    "srv-additional": when(
        for_names("_tcp."),
        lambda r: r.additional.append(dns.rrset.from_text(r.question[0].name, 5, "IN", "A", "10.9.9.9")),
    ),
    "srv-bare-name": data(named("cluster"), "SRV", f"0 100 99 {named('cluster')}"),
    "headless-a": incomplete(named("headless"), "A"),
    "headless-aaaa": incomplete(named("headless-both"), "AAAA"),
    "headless-hostname": data("alpha." + named("headless"), "A", "198.18.7.99"),
    "headless-srv": incomplete("_http._tcp." + named("headless"), "SRV"),
    "headless-srv-targets": data(f"{UNNAMED}." + named("headless"), "A", "198.18.7.99"),
    "headless-ptr": ptr_records(lambda target: target.startswith("alpha."), named("headless")),
    "headless-ptr-unnamed": ptr_records(lambda target: target.startswith(UNNAMED), named("headless")),
    "headless-empty": removed(named("unready"), "A"),
    "endpoint-dashed": Fault(zone=lambda zone: zone.pop((f"{UNNAMED}.{named('headless')}", "A"))),
    "nxdomain-service": when(lambda r: nxdomain(r) and for_names(OWN, ".default.svc.")(r), rcode(0)),
    "nxdomain-namespace": when(lambda r: nxdomain(r) and for_names("kubernetes.absent")(r), rcode(0)),
    "nxdomain-zone": when(lambda r: nxdomain(r) and for_names("www.absent")(r), rcode(0)),
    "nxdomain-endpoint": when(
        lambda r: nxdomain(r) and r.question[0].name.to_text().count(".") > 5, record("A 198.18.7.11")
    ),
    "nxdomain-port": when(lambda r: nxdomain(r) and for_names("_absent.")(r), rcode(0)),
    "nxdomain-deep": when(lambda r: nxdomain(r) and for_names("a.b.c.")(r), rcode(0)),
    "wildcard-literal": when(for_names("*."), record("A 10.96.1.2")),
    "nodata-family": when(lambda r: negative(r) and for_names(OWN, rtype="AAAA")(r), rcode(3)),
    "nodata-type": when(for_names(OWN, ".default.svc.", rtype="HTTPS"), rcode(4)),
    "nodata-inner": when(lambda r: r.question[0].name.to_text() == f"svc.{ZONE}", rcode(3)),
    "nodata-protocol": when(
        lambda r: negative(r) and r.question[0].name.to_text().startswith(("_tcp.", "_udp.")), rcode(3)
    ),
    "nodata-reverse": when(lambda r: negative(r) and for_names("in-addr.arpa")(r), rcode(3)),
    "reverse-nonexistent": when(for_names("100.51.198.in-addr"), record(f"PTR x.default.svc.{ZONE}")),
    "nonexistent-any-type": when(lambda r: nxdomain(r) and for_names("absent", rtype="SOA")(r), rcode(0)),
    "present-any-type": when(lambda r: negative(r) and for_names(".", rtype="TXT")(r), rcode(3)),
    "negative-soa": when(nxdomain, lambda reply: reply.authority.clear()),
    "negative-ttl": when(negative, soa_ttl),
    "apex-soa": removed(ZONE, "SOA"),
    "authoritative": when(negative, flag(dns.flags.AA)),
    "rrset": when(lambda r: r.answer and for_names(OWN, rtype="A")(r), two_ttls),
    "case-insensitive": when(
        lambda r: r.question[0].name.to_text()[:1].isupper(), lambda r: (rcode(3)(r), r.answer.clear())
    ),
    "search-glibc": when(lambda r: nxdomain(r) and for_names("headless.")(r), rcode(2)),
    "search-glibc-tcp": Fault(reply=lambda r, t: (rcode(2)(r) if t == "tcp" and nxdomain(r) else None, r)[1]),
    "search-musl": when(lambda r: nxdomain(r) and for_names(f".{NS}.default.svc.")(r), rcode(0)),
    "search-outside": when(lambda r: nxdomain(r) and for_names("example.com")(r), rcode(0)),
    "message-id": octets(lambda p: p.__setitem__(0, p[0] ^ 1), lambda q, _: q[:2] == b"\xff\xff"),
    "question-case": octets(lower),
    "source-address": Fault(other_port=True),
    "qr-silence": replace(lambda q, _: len(q) > 2 and q[2] & 0x80, noerror_header),
    "qdcount-two": replace(lambda q, _: q[4:6] == b"\0\2", noerror_header),
    "qdcount-zero": replace(lambda q, _: q[4:6] == b"\0\0" and not opcode(q), lambda q: q[:2] + b"\x80\2" + bytes(8)),
    "opcode-unknown": octets(lambda p: p.__setitem__(3, 1), lambda q, _: opcode(q) == 15),
    "opcode-update": replace(lambda q, _: opcode(q) == 5, lambda q: q[:2] + bytes([q[2] | 0x80, 0]) + q[4:12] + q[12:]),
    "type-unknown": no_reply(lambda q, _: rtype_of(q) == 1000),
    "header-z": keeps_query_bit(0x40),
    "header-ad": keeps_query_bit(0x20),
    "header-cd": no_reply(lambda q, _: len(q) > 3 and q[3] & 0x10),
    "header-rd": octets(lambda p: p.__setitem__(2, p[2] | 1)),
    "header-aa-tc": keeps_query_bit(0x200),
    "class": when(
        lambda r: r.question[0].rdclass != 1,
        lambda r: r.answer.append(dns.rrset.from_text("x.", 5, "IN", "A", "10.0.0.1")),
    ),
    "axfr-udp": when(
        for_names(".", rtype="AXFR"),
        lambda r: r.answer.extend(dns.rrset.from_text(n, 5, "IN", "A", "10.0.0.1") for n in ("a.", "b.")),
    ),
    "axfr-open": when(for_names(".", rtype="AXFR"), record("A 10.0.0.1")),
    "any": when(for_names(".", rtype="ANY"), rcode(2)),
    "garbage": replace(lambda q, _: len(q) in (5, 12), lambda q: q[:2] + b"\x80"),
    "malformed": replace(lambda q, _: len(q) == 12 and not opcode(q), lambda q: q[:2] + b"\x80\2" + bytes(8)),
    "truncation-plain": Fault(reply=truncated_without_tc),
    "truncation-edns": Fault(reply=lambda r, t: truncated_without_tc(r, t) if with_edns(r) else r),
    "truncation-retry": Fault(reply=lambda r, t: truncated_without_tc(r, t) if t == "tcp" else r),
    "big-srv": incomplete("_http._tcp." + named("big"), "SRV"),
    "tcp": tcp_differs(2),
    "tcp-reuse": Fault(one_reply_a_connection=True),
    "tcp-pipelining": no_reply(after_third({})),
    "tcp-pieces": Fault(whole_segments_only=True),
    "udp-many": Fault(drops_after=20),
    **{f"isc-{test.name}": isc(test) for test in TESTS},
    "edns-size": Fault(packet=with_size_of_query),
    "edns-bad-cookie": replace(lambda q, _: q[-7:] == b"\0\x0a\0\3bad", with_bad_cookie),
    "edns-cookie": when(with_edns, option(10, bytes.fromhex("0123456789abcdef"))),
    "edns-tcp": Fault(reply=lambda r, t: (no_edns(r) if t == "tcp" else None, r)[1]),
    "edns-small": octets(lambda p: p.__setitem__(2, p[2] | 2), lambda q, _: q[-8:-6] == b"\0\x32"),
    "edns-two": replace(
        lambda q, _: q[10:12] == b"\0\2", lambda q: q[:2] + b"\x80\0\0\1" + bytes(6) + q[12 : 12 + len(q) - 34]
    ),
    "edns-large-query": no_reply(lambda q, _: len(q) > 512),
    "change-created": Fault(ignores=("create", "made-later")),
    "change-deleted": Fault(ignores=("delete", "deleted-later")),
    "change-endpoint-deleted": Fault(ignores=("patch", "loses-a-pod-1")),
    "change-endpoint-unready": Fault(ignores=("patch", "has-a-probe-1")),
    "change-scaled-up": Fault(ignores=("patch", "grows-1")),
    "change-scaled-to-zero": Fault(ignores=("delete", "shrinks-1")),
    "change-externalname": Fault(ignores=("patch", "moves")),
    "change-to-clusterip": Fault(ignores=("patch", "becomes-clusterip")),
    "change-to-externalname": Fault(ignores=("patch", "becomes-external")),
}
