"""Parses a request: header, question section, EDNS.

`accept` decides what CoreDNS decides before any plugin sees a packet. A packet that is not a query gets no reply. A
query that cannot be served gets a reply without records. Any other packet becomes a `Request`. Records other than OPT
are skipped, apart from the SOA record of an IXFR request. Sources: RFC 1035 §4.1, RFC 6891 §6.1, RFC 8906 §3.
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
    """A parsed request.

    `name` is the query name as the client spelled it. `question` is the octets of the question section. `serial` is the
    serial of the SOA record in the authority section of an IXFR request (RFC 1995 §3), or None.
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
    """Returns the request, or the complete reply if the packet is malformed, or None if it gets no reply.

    As in CoreDNS, a packet may end before the records that its header counts, even before the type and class of the
    question. A packet that consists only of a header gets SERVFAIL.
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
    """Returns the query name and the offset after the name.

    Raises FormError if the name is invalid or compressed. The query name is the first name of a message, so no pointer
    in it can point to an earlier name.
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
    """Reads up to `count` records from offset `at`, and returns the last OPT record, or None.

    OPT records among the first `before` records are ignored, as they are not in the additional section.
    """
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
    """Skips `before` records from offset `at`, and returns the serial of the next record.

    Returns None if this is not a SOA record.
    """
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
