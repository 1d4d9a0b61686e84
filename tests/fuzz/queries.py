"""Fuzzing targets for the packets of clients: queries and EDNS options. dnspython must read the same."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

import dns.edns
import dns.message

from svcdns.plugin_api.reply import Reply
from svcdns.wire import edns as opt
from svcdns.wire import names
from svcdns.wire.codes import OPCODE_MASK, QR, TC, OptionCode, Rcode, Type
from svcdns.wire.errors import FormError
from svcdns.wire.message import encode_reply
from svcdns.wire.record import Edns, Record
from svcdns.wire.request import REASONS, Rejected, Request, accept
from tests.fuzz.names import check_name
from tests.fuzz.replies import read_by_dnspython, wire
from tests.fuzz.target import Target

_HEADER: Final = struct.Struct("!HHHHHH")
_SILENT: Final = ("short", "response")
_PARSED_OPTIONS: Final = frozenset(
    {OptionCode.CLIENT_SUBNET, OptionCode.COOKIE, OptionCode.EXTENDED_ERROR, OptionCode.EXPIRE, 18}
)
"""Options whose data dnspython parses: it refuses or normalises some. 18 is Report-Channel (RFC 9567)."""


def run_request(packet: bytes) -> None:
    """Reads a packet from a client. If svcdns accepts the packet, dnspython must read the same. An error reply must be
    short and well-formed.
    """
    outcome = accept(packet)
    assert accept(packet) == outcome
    if isinstance(outcome, Rejected):
        _check_rejected(packet, outcome)
    else:
        _check_request(packet, outcome)


def _check_rejected(packet: bytes, outcome: Rejected) -> None:
    assert outcome.reason in REASONS
    if outcome.reason in _SILENT:
        assert outcome.wire == b""
        return
    assert _HEADER.size <= len(outcome.wire) <= len(packet)
    ident, flags, questions, *counts = _HEADER.unpack_from(outcome.wire)
    assert ident == int.from_bytes(packet[:2], "big")
    assert flags & QR
    assert flags & OPCODE_MASK == int.from_bytes(packet[2:4], "big") & OPCODE_MASK
    assert flags & 15 == (Rcode.NOTIMP if outcome.reason == "opcode" else Rcode.FORMERR)
    body = outcome.wire[12:]
    if counts == [0, 0, 1]:  # a malformed option
        assert (body[-11:-8], body[-2:]) == (b"\0\0\x29", b"\0\0")
        body = body[:-11]
    else:
        assert counts == [0, 0, 0]
    assert body == (packet[12 : 12 + len(body)] if questions else b"")
    if outcome.reason in ("question", "records"):
        reference = read_by_dnspython(packet)
        assert reference is None or reference.errors or _is_refused_on_purpose(packet, reference)


def _is_refused_on_purpose(packet: bytes, reference: Any) -> bool:
    """Returns True if svcdns refuses a query with FORMERR for a reason that dnspython does not check.

    The reasons: the name of the question is compressed; an option has a wrong size; there are too many options or
    compression pointers; an IXFR query has no complete SOA record.
    """
    try:
        names_at, after = names.read_name(packet, _HEADER.size)
    except FormError:
        return True
    if after != _HEADER.size + len(names_at):
        return True
    options = reference.opt[0].options if reference.opt is not None else ()
    lengths = [(int(option.otype), len(option.to_wire())) for option in options]
    if len(lengths) > opt.MAX_OPTIONS or any(code in _PARSED_OPTIONS or code in opt._LENGTHS for code, _ in lengths):
        return True
    return any(octet >= 0xC0 for octet in packet[after:]) or reference.question[0].rdtype == Type.IXFR


def _check_request(packet: bytes, request: Request) -> None:
    reference = read_by_dnspython(packet)
    assert reference is not None
    assert (reference.id, int(reference.flags)) == (request.ident, request.flags)
    if not request.question:  # a request for a server cookie alone (RFC 7873 §5.4)
        assert reference.question == []
        assert request.edns is not None
        assert OptionCode.COOKIE in [code for code, _ in request.edns.options]
        if reference.opt is not None:
            _check_edns(request.edns, reference)
        return
    check_name(request.name)
    (question,) = reference.question
    assert wire(question.name) == request.name
    assert (int(question.rdtype), int(question.rdclass)) == (request.rtype, request.rclass)
    assert request.question == packet[12 : 16 + len(request.name)]
    assert 0 <= request.trailing < len(packet)
    skipped = sum(struct.unpack_from("!HHH", packet, 6)) - (request.edns is not None)
    refused = len(reference.errors) - skipped
    assert refused <= (request.edns is not None and bool(request.edns.version or request.edns.options))
    if not reference.errors:
        assert (request.edns is None) == (reference.opt is None)
    if request.edns is not None and reference.opt is not None:
        _check_edns(request.edns, reference)
    if request.rtype not in (Type.AXFR, Type.IXFR):
        _check_reply(request)


def _check_edns(edns: Edns, reference: Any) -> None:
    assert (edns.size, edns.version) == (reference.payload, reference.edns)
    assert edns.dnssec_ok == bool(reference.ednsflags & opt.DO)
    if edns.version:  # the options of an unknown version are not read
        assert edns.options == ()
        return
    options = reference.opt[0].options
    assert [code for code, _ in edns.options] == [int(option.otype) for option in options]
    for (code, data), option in zip(edns.options, options, strict=True):
        assert code in _PARSED_OPTIONS or data == option.to_wire()


def _check_reply(request: Request) -> None:
    """Encodes a reply to the request, and checks that dnspython can read the reply."""
    answer = Record(request.name, Type.TXT, 5, b"\1a", request.rclass)
    for limit in (512, 65535):
        packet = encode_reply(request, Reply(answer=(answer,) * 3), limit)
        reply = read_by_dnspython(packet)
        assert reply is not None
        assert not reply.errors
        assert reply.id == request.ident
        assert len(packet) <= limit
        assert packet[12 : 12 + len(request.question)] == request.question
        assert bool(reply.flags & TC) == (len(reply.answer) < 3)
        assert (reply.opt is None) == (request.edns is None)


def run_edns(data: bytes) -> None:
    """Reads an OPT record, without its class and TTL. Encoding the options and reading them again must give the same
    options.
    """
    if len(data) < 6:
        return
    size, ttl = struct.unpack_from("!HI", data)
    rdata = data[6:]
    try:
        found = opt.from_record(size, ttl, rdata)
    except FormError:
        return
    encoded = opt.to_wire(found, (ttl >> 24) << 4)
    assert len(encoded) <= 11 + len(rdata)
    assert encoded[:3] == b"\0\0\x29"
    own_size, own_ttl = struct.unpack_from("!HI", encoded, 3)
    again = opt.from_record(own_size, own_ttl, encoded[11:])
    assert again == found
    assert len(found.options) <= opt.MAX_OPTIONS
    reply = opt.for_reply(found, found)
    assert reply is not None
    assert reply.version == 0
    assert not {code for code, _ in reply.options} & opt.HOP_BY_HOP
    packet = _HEADER.pack(1, 0, 0, 0, 0, 1) + encoded
    reference = read_by_dnspython(packet)
    assert reference is not None
    if not reference.errors:
        _check_edns(_as_in_a_query(found), reference)


def _as_in_a_query(found: Edns) -> Edns:
    """Returns the OPT record as the parser of queries returns it: if the version is unknown, without options."""
    return Edns(found.size, found.dnssec_ok, found.version, () if found.version else found.options)


def _queries() -> Iterator[bytes]:
    for text, rtype, options in (
        ("web.default.svc.cluster.local.", "A", {}),
        ("example.org.", "AAAA", {"use_edns": 0, "payload": 1232, "want_dnssec": True}),
        (".", "NS", {"use_edns": 0, "options": [dns.edns.GenericOption("COOKIE", b"12345678")]}),
        ("a.b.", "IXFR", {}),
        ("a.b.", "TXT", {"use_edns": 0, "options": [dns.edns.ECSOption("192.0.2.0", 24)]}),
        (
            "a.b.",
            "TXT",
            {"use_edns": 1, "options": [dns.edns.GenericOption("NSID", b""), dns.edns.GenericOption("PADDING", b"00")]},
        ),
    ):
        query = dns.message.make_query(text, rtype, id=1, **options)
        if rtype == "IXFR":
            soa = dns.message.from_text("id 1\n;AUTHORITY\na.b. 5 IN SOA a.b. c.b. 7 1 1 1 1\n").authority
            query.authority.extend(soa)
        yield query.to_wire()
    yield _HEADER.pack(1, 0, 0, 0, 0, 1) + b"\0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x0a\0\x08" + b"12345678"


def _options() -> Iterator[bytes]:
    yield b"\x04\xd0\0\0\x80\0"
    yield b"\x04\xd0\0\0\0\0\0\x0a\0\x08" + b"12345678" + b"\0\x0b\0\2\0\1"
    yield b"\x04\xd0\1\0\0\0\0\x08\0\7\0\1\x18\0\xc0\0\2" + b"\0\x0f\0\3\0\1a" + b"\0\x09\0\4\0\0\0\1"
    yield b"\x04\xd0\0\1\0\0\0\3\0\0"


TARGETS: Final = (
    Target("request", run_request, _queries, 200),
    Target("edns", run_edns, _options, 120),
)
