"""For each check, a way in which a server can be wrong that the check is there to see."""

from __future__ import annotations

from collections.abc import Callable

import dns.edns
import dns.flags
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.conformance.model import ZONE, Fault, Reply, Zone

NS = "lab"
OWN = f".{NS}.svc.{ZONE}"


def named(service: str) -> str:
    """A Service's name in the lab's namespace."""
    return service + OWN


def data(name: str, rtype: str, *texts: str) -> Fault:
    """Other data at a name."""
    return Fault(zone=lambda zone: zone.update({(name, rtype): list(texts)}))


def lost(name: str, rtype: str) -> Fault:
    """No data at a name; the name stays."""
    return Fault(zone=lambda zone: zone.update({(name, "NONE"): zone.pop((name, rtype), [])}))


def fewer(name: str, rtype: str) -> Fault:
    """One record of a set is missing."""
    return Fault(zone=lambda zone: zone[name, rtype].pop())


def pointers(where: Callable[[str], bool], text: str) -> Fault:
    """PTR records of some targets have another."""

    def edit(zone: Zone) -> None:
        for key, texts in zone.items():
            if key[1] == "PTR" and any(map(where, texts)):
                zone[key] = [text]

    return Fault(zone=edit)


def when(which: Callable[[Reply], object], change: Callable[[Reply], object]) -> Fault:
    """Replies of some kind are changed."""

    def edit(reply: Reply, _transport: str) -> Reply:
        if which(reply):
            change(reply)
        return reply

    return Fault(reply=edit)


def asked(*names: str, rtype: str = "") -> Callable[[Reply], bool]:
    """Replies to questions whose name has one of these in it, of a type if one is given."""

    def which(reply: Reply) -> bool:
        question = reply.question[0]
        return any(n in question.name.to_text().lower() for n in names) and rtype in ("", dns.rdatatype.to_text(question.rdtype))

    return which


def record(text: str) -> Callable[[Reply], None]:
    """A record more in the answer: type and data; NOERROR."""

    def add(reply: Reply) -> None:
        rtype, _, rest = text.partition(" ")
        reply.set_rcode(dns.rcode.NOERROR)
        reply.answer = [dns.rrset.from_text(reply.question[0].name, 5, "IN", rtype, rest)]

    return add


def code(number: int) -> Callable[[Reply], None]:
    """Another response code."""
    return lambda reply: reply.set_rcode(dns.rcode.Rcode.make(number))


def flag(bit: int) -> Callable[[Reply], None]:
    """A header bit the other way round."""

    def turn(reply: Reply) -> None:
        reply.flags ^= bit

    return turn


def octets(change: Callable[[bytearray], object], which: Callable[[bytes, str], object] = lambda *_: True) -> Fault:
    """The octets of replies are changed."""

    def edit(query: bytes, reply: bytes | None, transport: str) -> bytes | None:
        if reply is None or not which(query, transport):
            return reply
        copy = bytearray(reply)
        change(copy)
        return bytes(copy)

    return Fault(packet=edit)


def silent(which: Callable[[bytes, str], object]) -> Fault:
    """No reply at all to some queries."""
    return Fault(packet=lambda query, reply, transport: None if which(query, transport) else reply)


def instead(which: Callable[[bytes, str], object], reply: Callable[[bytes], bytes]) -> Fault:
    """Some queries get these octets."""
    return Fault(packet=lambda query, right, transport: reply(query) if which(query, transport) else right)


def understood(query: bytes) -> bytes:
    """NOERROR with what came behind the header."""
    return query[:2] + b"\x80\0" + query[4:6] + bytes(6) + query[12:]


def absent(reply: Reply) -> bool:
    """Replies of NXDOMAIN."""
    return reply.rcode() == 3


def negative(reply: Reply) -> bool:
    """Replies without an answer."""
    return not reply.answer


def with_edns(reply: Reply) -> bool:
    """Replies to queries with EDNS."""
    return reply.edns >= 0


def no_edns(reply: Reply) -> None:
    """The OPT record left out."""
    reply.use_edns(False)


def option(number: int, content: bytes = b"") -> Callable[[Reply], None]:
    """An EDNS option given back."""
    return lambda reply: reply.use_edns(
        0, ednsflags=reply.ednsflags, options=[dns.edns.GenericOption(dns.edns.OptionType.make(number), content)]
    )


def edns_flags(bits: int) -> Callable[[Reply], None]:
    """EDNS flags as they must not be."""
    return lambda reply: reply.use_edns(0, ednsflags=bits)


def soa_ttl(reply: Reply) -> None:
    """A TTL above MINIMUM."""
    for rrset in reply.authority:
        rrset.ttl = 3600


def two_ttls(reply: Reply) -> None:
    """A set with two TTLs."""
    first = reply.answer[0]
    reply.answer.append(dns.rrset.from_text(first.name, first.ttl + 1, "IN", "A", "10.0.0.1"))


def lower(packet: bytearray) -> None:
    """The question in lower case."""
    packet[12:] = bytes(packet[12:]).lower()


def rtype_of(query: bytes) -> int:
    """The type of a query's question, 0 where there is none."""
    at = 12
    while at < len(query) and query[at]:
        at += 1 + query[at]
    return int.from_bytes(query[at + 1 : at + 3], "big")


def opcode(query: bytes) -> int:
    """The opcode of a query; 0 where it is too short."""
    return query[2] >> 3 & 15 if len(query) > 2 else 0


def keeps_query_bit(bit: int) -> Fault:
    """A header bit of the query comes back."""

    def edit(query: bytes, reply: bytes | None, _transport: str) -> bytes | None:
        if reply is None or not int.from_bytes(query[2:4], "big") & bit:
            return reply
        return reply[:2] + (int.from_bytes(reply[2:4], "big") | bit).to_bytes(2, "big") + reply[4:]

    return Fault(packet=edit)


def many_cut(reply: Reply, transport: str) -> Reply:
    """Long answers lose their end without TC."""
    if len(reply.answer) == 1 and len(reply.answer[0]) > 20:
        first = reply.answer[0]
        keep = list(first)[:20]
        reply.answer = [dns.rrset.from_rdata_list(first.name, first.ttl, keep)]
    return reply


def tcp_differs(number: int) -> Fault:
    """Over TCP, another response code for what is right over UDP."""

    def edit(reply: Reply, transport: str) -> Reply:
        if transport == "tcp":
            reply.set_rcode(dns.rcode.Rcode.make(number))
        return reply

    return Fault(reply=edit)


def from_fourth_on(query_count: dict[int, int]) -> Callable[[bytes, str], bool]:
    """Queries over TCP after the third."""

    def which(_query: bytes, transport: str) -> bool:
        query_count[0] = query_count.get(0, 0) + (transport == "tcp")
        return transport == "tcp" and query_count[0] > 3

    return which


UNNAMED = "198-18-7-13"

FAULTS: dict[str, Fault] = {
    "dns-version": data(f"dns-version.{ZONE}", "TXT", '"one"'),
    "kubernetes-service": lost(f"kubernetes.default.svc.{ZONE}", "A"),
    "clusterip-a": data(named("cluster"), "A", "10.9.9.9", "10.96.1.2"),
    "clusterip-aaaa": data(named("dual"), "AAAA", "fd00::9999"),
    "dual-stack": lost(named("dual"), "AAAA"),
    "nodeport-a": data(named("nodeport"), "A", "192.0.2.1"),
    "loadbalancer-a": data(named("loadbalancer"), "A", "203.0.113.1"),
    "clusterip-srv": data("_http._tcp." + named("cluster"), "SRV", f"0 100 8080 {named('cluster')}"),
    "clusterip-ptr": pointers(lambda target: target == named("cluster"), "wrong.example."),
    "clusterip-ptr-ipv6": Fault(zone=lambda zone: [zone.pop(key) for key in list(zone) if key[0].endswith(".ip6.arpa.")]),
    "externalname-cname": data(named("external"), "CNAME", "other.conformance.invalid."),
    "externalname-a": when(asked("external.", rtype="A"), lambda reply: reply.answer.clear()),
    "pod-a": when(asked(".pod."), record("A 10.0.0.9")),
    "srv-additional": when(
        asked("_tcp."), lambda r: r.additional.append(dns.rrset.from_text(r.question[0].name, 5, "IN", "A", "10.9.9.9"))
    ),
    "srv-bare-name": data(named("cluster"), "SRV", f"0 100 99 {named('cluster')}"),
    "headless-a": fewer(named("headless"), "A"),
    "headless-aaaa": fewer(named("headless-both"), "AAAA"),
    "headless-hostname": data("alpha." + named("headless"), "A", "198.18.7.99"),
    "headless-srv": fewer("_http._tcp." + named("headless"), "SRV"),
    "headless-srv-targets": data(f"{UNNAMED}." + named("headless"), "A", "198.18.7.99"),
    "headless-ptr": pointers(lambda target: target.startswith("alpha."), named("headless")),
    "headless-ptr-unnamed": pointers(lambda target: target.startswith(UNNAMED), named("headless")),
    "headless-empty": lost(named("unready"), "A"),
    "endpoint-dashed": Fault(zone=lambda zone: zone.pop((f"{UNNAMED}.{named('headless')}", "A"))),
    "nxdomain-service": when(lambda r: absent(r) and asked(OWN, ".default.svc.")(r), code(0)),
    "nxdomain-namespace": when(lambda r: absent(r) and asked("kubernetes.absent")(r), code(0)),
    "nxdomain-zone": when(lambda r: absent(r) and asked("www.absent")(r), code(0)),
    "nxdomain-endpoint": when(lambda r: absent(r) and r.question[0].name.to_text().count(".") > 5, record("A 198.18.7.11")),
    "nxdomain-port": when(lambda r: absent(r) and asked("_absent.")(r), code(0)),
    "nxdomain-deep": when(lambda r: absent(r) and asked("a.b.c.")(r), code(0)),
    "wildcard-literal": when(asked("*."), record("A 10.96.1.2")),
    "nodata-family": when(lambda r: negative(r) and asked(OWN, rtype="AAAA")(r), code(3)),
    "nodata-type": when(asked(OWN, ".default.svc.", rtype="HTTPS"), code(4)),
    "nodata-inner": when(lambda r: r.question[0].name.to_text() == f"svc.{ZONE}", code(3)),
    "nodata-protocol": when(lambda r: negative(r) and r.question[0].name.to_text().startswith(("_tcp.", "_udp.")), code(3)),
    "nodata-reverse": when(lambda r: negative(r) and asked("in-addr.arpa")(r), code(3)),
    "reverse-absent": when(asked("100.51.198.in-addr"), record(f"PTR x.default.svc.{ZONE}")),
    "absent-any-type": when(lambda r: absent(r) and asked("absent", rtype="SOA")(r), code(0)),
    "present-any-type": when(lambda r: negative(r) and asked(".", rtype="TXT")(r), code(3)),
    "negative-soa": when(absent, lambda reply: reply.authority.clear()),
    "negative-ttl": when(negative, soa_ttl),
    "apex-soa": lost(ZONE, "SOA"),
    "authoritative": when(negative, flag(dns.flags.AA)),
    "rrset": when(lambda r: r.answer and asked(OWN, rtype="A")(r), two_ttls),
    "case-insensitive": when(lambda r: r.question[0].name.to_text()[:1].isupper(), lambda r: (code(3)(r), r.answer.clear())),
    "search-glibc": when(lambda r: absent(r) and asked("headless.")(r), code(2)),
    "search-glibc-tcp": Fault(reply=lambda r, t: (code(2)(r) if t == "tcp" and absent(r) else None, r)[1]),
    "search-musl": when(lambda r: absent(r) and asked(f".{NS}.default.svc.")(r), code(0)),
    "search-outside": when(lambda r: absent(r) and asked("example.com")(r), code(0)),
    "message-id": octets(lambda p: p.__setitem__(0, p[0] ^ 1), lambda q, _: q[:2] == b"\xff\xff"),
    "question-case": octets(lower),
    "source-address": Fault(other_port=True),
    "qr-silence": instead(lambda q, _: len(q) > 2 and q[2] & 0x80, understood),
    "qdcount-two": instead(lambda q, _: q[4:6] == b"\0\2", understood),
    "qdcount-zero": instead(lambda q, _: q[4:6] == b"\0\0" and not opcode(q), lambda q: q[:2] + b"\x80\2" + bytes(8)),
    "opcode-unknown": octets(lambda p: p.__setitem__(3, 1), lambda q, _: opcode(q) == 15),
    "opcode-update": instead(lambda q, _: opcode(q) == 5, lambda q: q[:2] + bytes([q[2] | 0x80, 0]) + q[4:12] + q[12:]),
    "type-unknown": silent(lambda q, _: rtype_of(q) == 1000),
    "header-z": keeps_query_bit(0x40),
    "header-ad": keeps_query_bit(0x20),
    "header-cd": silent(lambda q, _: len(q) > 3 and q[3] & 0x10),
    "header-rd": octets(lambda p: p.__setitem__(2, p[2] | 1)),
    "header-aa-tc": keeps_query_bit(0x200),
    "class": when(lambda r: r.question[0].rdclass != 1, lambda r: r.answer.append(dns.rrset.from_text("x.", 5, "IN", "A", "10.0.0.1"))),
    "axfr-udp": when(
        asked(".", rtype="AXFR"), lambda r: r.answer.extend(dns.rrset.from_text(n, 5, "IN", "A", "10.0.0.1") for n in ("a.", "b."))
    ),
    "axfr-open": when(asked(".", rtype="AXFR"), record("A 10.0.0.1")),
    "any": when(asked(".", rtype="ANY"), code(2)),
    "garbage": instead(lambda q, _: len(q) in (5, 12), lambda q: q[:2] + b"\x80"),
    "malformed": instead(lambda q, _: len(q) == 12 and not opcode(q), lambda q: q[:2] + b"\x80\2" + bytes(8)),
    "truncation-plain": Fault(reply=many_cut),
    "truncation-edns": Fault(reply=lambda r, t: many_cut(r, t) if with_edns(r) else r),
    "truncation-retry": Fault(reply=lambda r, t: many_cut(r, t) if t == "tcp" else r),
    "big-srv": fewer("_http._tcp." + named("big"), "SRV"),
    "tcp": tcp_differs(2),
    "tcp-reuse": Fault(one_reply_a_connection=True),
    "tcp-pipelining": silent(from_fourth_on({})),
    "tcp-pieces": Fault(whole_segments_only=True),
    "udp-many": Fault(drops_after=20),
    "isc-dns": when(lambda r: not with_edns(r), edns_flags(0)),
    "isc-edns": when(with_edns, no_edns),
    "isc-edns1": when(lambda r: r.rcode() == 16, code(0)),
    "isc-edns@512": when(asked(".", rtype="DNSKEY"), code(4)),
    "isc-ednsopt": when(with_edns, option(100)),
    "isc-edns1opt": when(lambda r: r.rcode() == 16, option(100)),
    "isc-do": when(with_edns, edns_flags(0)),
    "isc-ednsflags": when(with_edns, edns_flags(0x80)),
    "edns-options": instead(lambda q, _: b"\0\x0a\0\x08" in q and b"\0\x08\0\x04" in q, lambda q: q[:2] + b"\x80\1" + bytes(8)),
    "edns-cookie": when(with_edns, option(10, bytes.fromhex("0123456789abcdef"))),
    "edns-tcp": Fault(reply=lambda r, t: (no_edns(r) if t == "tcp" else None, r)[1]),
    "edns-small": octets(lambda p: p.__setitem__(2, p[2] | 2), lambda q, _: q[-8:-6] == b"\0\x32"),
    "edns-two": instead(lambda q, _: q[10:12] == b"\0\2", lambda q: q[:2] + b"\x80\0\0\1" + bytes(6) + q[12 : 12 + len(q) - 34]),
    "edns-large-query": silent(lambda q, _: len(q) > 512),
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
