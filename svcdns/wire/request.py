"""Parsing of a request: header, question section, EDNS.

`accept` decides as CoreDNS does before any plugin sees a packet: no reply to a packet that is no query, a header alone
where the query cannot be served, else a `Request`. Records other than OPT are skipped. Sources: RFC 1035 §4.1, RFC 6891
§6.1, RFC 8906 §3.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from svcdns.wire import edns as opt
from svcdns.wire import names
from svcdns.wire.codes import AA, CD, OPCODE_MASK, QR, RD, Opcode, Rcode, Type, Z
from svcdns.wire.errors import FormError
from svcdns.wire.record import Edns

HEADER: Final = struct.Struct("!HHHHHH")
_TWO_SHORTS: Final = struct.Struct("!HH")
_FIXED: Final = struct.Struct("!HHIH")
_SERIAL: Final = struct.Struct("!I")
_SERVED_OPCODES: Final = (Opcode.QUERY, Opcode.NOTIFY)


class Request(msgspec.Struct, gc=False):
    """A request for a chain. `name` has the client's spelling; `question` has the octets of the question section.

    `serial` is that of the SOA record in the authority section of an IXFR request (RFC 1995 §3), if there is one.
    """

    ident: int
    flags: int
    name: bytes
    rtype: int
    rclass: int
    question: bytes
    edns: Edns | None = None
    serial: int | None = None


def accept(packet: bytes) -> Request | bytes | None:
    """The request; or the complete reply to a malformed packet; or None if there is to be no reply.

    As in CoreDNS, a packet may end before the records that its header counts, even before type and class. A header
    alone gets SERVFAIL.
    """
    if len(packet) < 12:
        return None
    ident, flags, questions, answers, authorities, additionals = HEADER.unpack_from(packet)
    if flags & QR:
        return None
    if flags >> 11 & 15 not in _SERVED_OPCODES:
        return _header_only(ident, flags, Rcode.NOTIMP)
    if questions != 1 or answers > 1 or authorities > 1 or additionals > 2:
        return _header_only(ident, flags & ~OPCODE_MASK, Rcode.FORMERR)
    if len(packet) == 12:
        return HEADER.pack(
            ident, QR | flags & (OPCODE_MASK if flags & OPCODE_MASK else RD | CD) | Rcode.SERVFAIL, 0, 0, 0, 0
        )
    try:
        name, at = read_query_name(packet)
        kind = packet[at : at + 4]
        rtype, rclass = _TWO_SHORTS.unpack(kind + b"\0\0\0\0"[len(kind) :])
    except FormError:
        return _header_only(ident, flags & ~OPCODE_MASK, Rcode.FORMERR)
    if len(kind) & 1:
        return _header_only(ident, flags & ~OPCODE_MASK, Rcode.FORMERR)
    at += 4
    request = Request(ident, flags, name, rtype, rclass, packet[12:at] + b"\0\0\0\0"[len(kind) :])
    count = answers + authorities + additionals
    if count:
        try:
            request.edns = _read_opt(packet, at, count, answers + authorities)
            if rtype == Type.IXFR and authorities:
                request.serial = _read_serial(packet, at, answers)
        except (FormError, struct.error):
            kept = _reply_bits(flags & ~OPCODE_MASK) | Rcode.FORMERR
            return HEADER.pack(ident, kept, 1, 0, 0, 0) + request.question
    return request


def read_query_name(packet: bytes) -> tuple[bytes, int]:
    """The query name, and the offset behind it. Raises FormError, for a pointer too: there is no earlier name that it
    could lead to.
    """
    at = 12
    try:
        while length := packet[at]:
            if length > names.MAX_LABEL:
                raise FormError("compressed or unknown label in the question")
            at += 1 + length
    except IndexError:
        raise FormError("question cut off") from None
    if at - 11 > names.MAX_NAME:
        raise FormError("query name longer than 255 octets")
    return packet[12 : at + 1], at + 1


def _read_opt(packet: bytes, at: int, count: int, before: int) -> Edns | None:
    """Skips up to `count` records; the last OPT record among those behind the first `before`."""
    found = None
    for number in range(count):
        if at >= len(packet):
            break
        _, at = (b"", at + 1) if packet[at : at + 1] == b"\0" else names.read_name(packet, at)
        rtype, rclass, ttl, length = _FIXED.unpack_from(packet, at)
        at += 10 + length
        if at > len(packet):
            raise FormError("record cut off")
        if rtype == Type.OPT:
            read = opt.from_record(rclass, ttl, packet[at - length : at])
            found = read if number >= before else found
    return found


def _read_serial(packet: bytes, at: int, before: int) -> int | None:
    """The serial of the record behind the first `before`, if that is a SOA record."""
    for _ in range(before):
        _, at = names.read_name(packet, at)
        at += 10 + _FIXED.unpack_from(packet, at)[3]
    if at >= len(packet):
        return None
    _, at = names.read_name(packet, at)
    if _FIXED.unpack_from(packet, at)[0] != Type.SOA:
        return None
    _, at = names.read_name(packet, at + 10)
    _, at = names.read_name(packet, at)
    return int(_SERIAL.unpack_from(packet, at)[0])


def _reply_bits(flags: int) -> int:
    return (flags | QR) & ~(AA | Z | 15)


def _header_only(ident: int, flags: int, rcode: int) -> bytes:
    return HEADER.pack(ident, _reply_bits(flags) | rcode, 0, 0, 0, 0)
