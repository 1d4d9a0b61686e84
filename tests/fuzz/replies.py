"""Fuzzing targets for replies of upstreams. dnspython and the fast path must read the same as the message parser."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

import dns.exception
import dns.message
import dns.name
import dns.rdata

from svcdns.plugin_api.reply import Reply
from svcdns.upstream.query import Dropped, UpstreamQuery
from svcdns.upstream.relevance import remove_unrelated_records
from svcdns.wire import names
from svcdns.wire.codes import OPCODE_MASK, QR, TC, Class, Type
from svcdns.wire.errors import FormError
from svcdns.wire.message import Message, encode_reply, parse_message
from svcdns.wire.record import Edns, Record
from svcdns.wire.request import Request
from svcdns.wire.simple_reply import SimpleReply, scan, with_ttl
from tests.fuzz.mutation import after, of_messages
from tests.fuzz.names import check_name
from tests.fuzz.target import Target
from tests.support import plain_replies as made
from tests.support import upstream_lies as lies

_HEADER: Final = struct.Struct("!HHHHHH")
_ANSWER: Final = names.from_text("web.example.org.")
_LONGEST: Final = 400
_START: Final = _HEADER.size + len(_ANSWER) + 4
_SAME: Final = frozenset({
    Type.A, Type.AAAA, Type.NS, Type.CNAME, Type.PTR, Type.MX, Type.SRV, Type.SOA, Type.TXT, Type.HINFO,
})  # fmt: skip
"""The types of records that both implementations must read in the same way."""
_OF_CLASS_IN: Final = frozenset({Type.A, Type.AAAA, Type.SRV, Type.NAPTR, Type.KX, Type.PX})
"""Types that dnspython reads in class IN only.

Names in them are decompressed here in every class (RFC 3597 §4), because a pointer is wrong in another message.
"""
_OBSOLETE: Final = frozenset({Type.MB, Type.MD, Type.MF, Type.MG, Type.MR, Type.MINFO, Type.NXT, Type.SIG})
"""Types whose names may be compressed, and which dnspython passes on unread."""


def read_by_dnspython(packet: bytes) -> Any:
    """Returns the message as dnspython reads it, or None if it is malformed. The attribute `errors` of the result has
    the errors in skipped parts.
    """
    try:
        return dns.message.from_wire(packet, ignore_trailing=True, one_rr_per_rrset=True, continue_on_error=True)
    except (dns.exception.DNSException, ValueError):
        return None


def wire(name: dns.name.Name) -> bytes:
    return b"".join(bytes((len(label),)) + label for label in name.labels)


def run_reply(packet: bytes) -> None:
    """Reads a packet from an upstream as a whole message. dnspython must find the same records."""
    try:
        message = parse_message(packet)
    except FormError:
        return
    check_name(message.name)
    for record in (*message.answer, *message.authority, *message.additional):
        check_name(record.owner)
        assert 0 <= record.ttl <= 0x7FFFFFFF
    _check_beside_dnspython(packet, message)
    _check_written_again(message)


def _check_beside_dnspython(packet: bytes, message: Message) -> None:
    if message.flags & OPCODE_MASK or not message.flags & QR:  # dnspython reads UPDATE in its own way
        return
    reference = read_by_dnspython(packet)
    assert reference is not None
    if reference.errors:
        assert len(reference.errors) <= _may_differ(message)
        return
    found = (reference.answer, reference.authority, reference.additional)
    for ours, theirs in zip((message.answer, message.authority, message.additional), found, strict=True):
        assert [(one.owner, one.rtype, one.rclass) for one in ours] == [
            (wire(one.name), int(one.rdtype), int(one.rdclass)) for one in theirs
        ]
        for record, rrset in zip(ours, theirs, strict=True):
            assert rrset.ttl == record.ttl
            is_generic = isinstance(rrset[0], dns.rdata.GenericRdata) and record.rtype not in _OBSOLETE
            if record.rclass != Class.IN and record.rtype in _OF_CLASS_IN:
                continue
            if is_generic or record.rtype in _SAME:  # other types may have a second form in dnspython
                assert rrset[0].to_wire() == record.rdata
    assert (message.edns is None) == (reference.opt is None)


def _may_differ(message: Message) -> int:
    """Returns the number of records that dnspython may refuse although svcdns passes them on.

    svcdns checks the layout of RDATA, but not the values. Both must agree for the types in _SAME. svcdns does not read
    the RDATA of other classes, or the options of the OPT record.
    """
    records = (*message.answer, *message.authority, *message.additional)
    lax = sum(1 for record in records if record.rclass != Class.IN or record.rtype not in _SAME)
    return lax + (message.edns is not None and bool(message.edns.options))


def _check_written_again(message: Message) -> None:
    request = Request(message.ident, 0, message.name, message.rtype, message.rclass, message.name + b"\0\1\0\1")
    reply = Reply(answer=message.answer, authority=message.authority, additional=message.additional)
    packet = encode_reply(request, reply, 65535)
    if packet[2] & TC >> 8:
        return
    again = parse_message(packet)
    assert (again.answer, again.authority, again.additional) == (message.answer, message.authority, message.additional)


def run_scan(data: bytes) -> None:
    """Reads a reply with the fast path and with the message parser. If both accept the reply, they must agree.

    The first octets of the input choose the query type, the flags and the counts. The records follow.
    """
    if len(data) < 6:
        return
    rtype = Type.AAAA if data[0] & 1 else Type.A
    flags = QR | (data[1] & 0x7F) << 8 | data[2]
    counts = data[3] & 7, data[4] & 3, data[5] & 3
    question = _ANSWER + int(rtype).to_bytes(2, "big") + b"\0\1"
    packet = _HEADER.pack(data[0], flags, 1, *counts) + question + data[6:]
    simple = scan(packet, _START, rtype)
    if simple is not None:
        check_simple(packet, simple, rtype, parse_message(packet))


_QUERIES: Final = tuple(
    UpstreamQuery(made.NAME, rtype, Class.IN, 0, edns)
    for rtype in (Type.A, Type.AAAA, Type.MX, Type.CNAME, Type.DS)
    for edns in (None, Edns(1232))
)
_IDENT: Final = 0x1234


def run_upstream(data: bytes) -> None:
    """Checks that the fast path and the message parser drop the same packets from an upstream, and keep the same
    records.

    The first octet of the input chooses the query. The packet follows. Each record of a simple reply must belong to the
    query.
    """
    if not data:
        return
    query, packet = _QUERIES[data[0] % len(_QUERIES)], data[1:]
    received = query.read(_IDENT, packet)
    if len(packet) < _HEADER.size or packet[:2] != _IDENT.to_bytes(2, "big"):
        assert received in (Dropped.ID, Dropped.MALFORMED)
        return
    whole = query._read_whole(packet)
    if isinstance(received, SimpleReply):
        assert isinstance(whole, Message)
        check_simple(packet, received, query.rtype, whole)
        assert whole.trailing == 0
        assert (whole.name, whole.rtype, whole.rclass) == (query.name, query.rtype, query.rclass)
    else:
        assert received == whole
    if isinstance(whole, Message):
        _check_removal(whole, query, is_simple=isinstance(received, SimpleReply))


def _check_removal(message: Message, query: UpstreamQuery, *, is_simple: bool) -> None:
    """Checks that removed records are counted, that a second removal changes nothing, and that the remaining message
    can be encoded.
    """
    before = sum(map(len, (message.answer, message.authority, message.additional)))
    stripped = remove_unrelated_records(message, query.name)
    after = sum(map(len, (message.answer, message.authority, message.additional)))
    assert before - after == stripped.total()
    assert not (is_simple and stripped)
    assert remove_unrelated_records(message, query.name) == {}
    assert all(record.rclass == Class.IN for record in (*message.answer, *message.authority, *message.additional))
    _check_written_again(message)


def check_simple(packet: bytes, simple: SimpleReply, rtype: int, message: Message) -> None:
    """Checks that the fast path and the message parser read the same from a reply."""
    assert not message.flags & (TC | OPCODE_MASK)
    assert message.flags & 15 == simple.rcode
    assert message.additional == ()
    records = message.answer + message.authority
    assert len(simple.ttls) == len(records)
    assert simple.ttl == min(record.ttl for record in records)
    assert all(record.rclass == Class.IN for record in records)
    assert [int.from_bytes(packet[at : at + 4], "big") for at in simple.ttls] == [record.ttl for record in records]
    if simple.is_denial:
        assert not message.answer
        (soa,) = message.authority
        assert soa.rtype == Type.SOA
        assert names.is_within(message.name.lower(), soa.owner.lower())
    else:
        _check_chain(packet, simple, rtype, message)
    _check_with_ttl(packet, simple, records)


def _check_chain(packet: bytes, simple: SimpleReply, rtype: int, message: Message) -> None:
    assert not message.authority
    owner = message.name.lower()
    count = (simple.end - simple.addresses) // simple.size
    aliases, addresses = message.answer[:-count], message.answer[-count:]
    for record in aliases:
        assert record.rtype == Type.CNAME
        assert record.owner.lower() == owner
        owner = record.rdata.lower()
    assert simple.aliases == tuple(record.rdata.lower() for record in aliases)
    assert all(record.rtype == rtype and record.owner.lower() == owner for record in addresses)
    end = simple.end
    assert (end - simple.addresses) % simple.size == 0
    assert [packet[at + 12 : at + simple.size] for at in range(simple.addresses, end, simple.size)] == [
        record.rdata for record in addresses
    ]


def _check_with_ttl(packet: bytes, simple: SimpleReply, records: tuple[Record, ...]) -> None:
    """Checks the copy of a reply that the fast path makes for another client: with a new ID, new TTLs, and no OPT
    record.
    """
    head = b"\xff\xff" + packet[2:10] + b"\0\0" + packet[12 : simple.start]
    again = parse_message(head + with_ttl(simple, 77))
    expected = [Record(one.owner, one.rtype, 77, one.rdata, one.rclass) for one in records]
    assert [*again.answer, *again.authority] == expected


_RECORDS: Final = (
    "a.b. 5 IN A 192.0.2.1",
    "a.b. 5 IN CNAME c.d.\nc.d. 6 IN A 192.0.2.1\nc.d. 6 IN A 192.0.2.2",
    "a.b. 5 IN MX 1 m.a.b.\na.b. 5 IN SRV 1 2 3 s.a.b.\na.b. 5 IN NAPTR 1 2 s a b .",
    "a.b. 5 IN TXT a b\na.b. 5 IN HINFO a b\na.b. 5 IN CAA 0 issue x\na.b. 5 IN DS 1 8 1 " + "aa" * 20,
    "a.b. 5 IN RRSIG A 8 2 5 20300101000000 20200101000000 1 a.b. AAAA\na.b. 5 IN NSEC c.b. A TXT",
    "a.b. 5 IN SVCB 1 . alpn=h2\na.b. 5 IN LOC 1 2 3 N 4 5 6 E 7m\na.b. 5 IN DNAME c.d.\na.b. 5 IN RP c.d. e.f.",
)


def _replies() -> Iterator[bytes]:
    for text in _RECORDS:
        reply = dns.message.from_text(f"id 1\nflags QR RD RA\n;QUESTION\na.b. IN A\n;ANSWER\n{text}\n")
        yield reply.to_wire()
    denial = "id 1\nrcode NXDOMAIN\nflags QR\nedns 0\npayload 1232\n;QUESTION\na.b. IN A\n;AUTHORITY\n"
    yield dns.message.from_text(denial + "b. 5 IN SOA ns.b. c.b. 1 2 3 4 5\n").to_wire()


def _simple() -> Iterator[bytes]:
    address = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\xc0\0\2\1"
    yield b"\0\1\x80\1\0\0" + address
    yield b"\0\1\x80\2\0\1" + address * 2 + b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
    cname = b"\xc0\x0c\0\5\0\1\0\0\0\5\0\4\1c\xc0\x10"
    yield b"\0\1\x80\2\0\0" + cname + b"\xc0" + bytes((_START + 12,)) + address[2:]
    yield b"\1\1\x80\1\0\0\xc0\x0c\0\x1c\0\1\0\0\0\5\0\x10" + bytes(16)
    soa = b"\1n\xc0\x10\1h\xc0\x10" + bytes(20)
    yield b"\0\1\x83\0\1\0\xc0\x10\0\6\0\1\0\0\0\5\0" + bytes((len(soa),)) + soa


def _upstream_packets() -> Iterator[bytes]:
    packets = [one[0] for group in (lies.DROPPED, lies.PASSED) for one in group.values()]
    for packet in (*packets, *(one.packet for one in lies.STRIPPED.values())):
        if len(packet) <= _LONGEST:
            yield b"\0" + packet
            yield b"\1" + packet
    for number, query in enumerate(_QUERIES):
        wire, rtype = query.packet(_IDENT), int(query.rtype)
        yield bytes((number,)) + wire[:2] + b"\x81\x80" + wire[4:]
        data = {Type.AAAA: made.V6, Type.MX: b"\0\1\4mail" + made.ZONE, Type.CNAME: made.FULL, Type.DS: bytes(24)}
        answer = made.record(made.OWNER, rtype, data.get(query.rtype, made.V4))
        yield bytes((number,)) + made.reply(answer, authority=[made.soa()], additional=[made.opt()], rtype=rtype)
        yield bytes((number,)) + made.reply(authority=[made.soa()], rtype=rtype)


TARGETS: Final = (
    Target("upstream", run_upstream, _upstream_packets, _LONGEST, mutate=after(1, of_messages)),
    Target("reply", run_reply, _replies, 300, mutate=of_messages),
    Target("scan", run_scan, _simple, 200),
)
