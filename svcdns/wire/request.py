"""Parses a request: header, question section, EDNS.

A packet that is not a query gets no reply. A query that cannot be served gets a reply without records. Any other packet
becomes a `Request`. Records other than OPT are ignored, except the SOA record of an IXFR request. Sources: RFC 1035
§4.1, RFC 6891 §6.1, RFC 8906 §3.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from svcdns.wire import edns as opt
from svcdns.wire import names
from svcdns.wire.codes import AA, OPCODE_MASK, QR, OptionCode, Rcode, Type, Z
from svcdns.wire.errors import FormError
from svcdns.wire.record import Edns

HEADER: Final = struct.Struct("!HHHHHH")
MAX_SEARCHED: Final = 64
"""The most records and questions of a message that is not served in which an OPT record is looked for."""
_TWO_SHORTS: Final = struct.Struct("!HH")
_FIXED: Final = struct.Struct("!HHIH")
_SERIAL: Final = struct.Struct("!I")


class Request(msgspec.Struct, gc=False):
    """A parsed request.

    - `name` is the query name in the client's spelling. `question` has the octets of the question section.
    - `serial` is the serial in the authority section of an IXFR request (RFC 1995 §3), or None.
    - `trailing` is the number of octets after the message.
    - In a request for a server cookie without a question (RFC 7873 §5.4), `name` and `question` are empty.
    """

    ident: int
    flags: int
    name: bytes
    rtype: int
    rclass: int
    question: bytes
    edns: Edns | None = None
    serial: int | None = None
    trailing: int = 0


class _OptionError(FormError):
    """Raised if an option of the OPT record is malformed. `dnssec_ok` is the DO bit of this record."""

    def __init__(self, dnssec_ok: bool) -> None:
        super().__init__("malformed EDNS option")
        self.dnssec_ok = dnssec_ok


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """A packet that is not a query, or a query that cannot be served.

    `reason` is a word for the metrics, one of REASONS. `wire` is the complete reply, or empty octets for no reply.
    """

    reason: str
    wire: bytes = b""


REASONS: Final = ("short", "response", "opcode", "counts", "question", "records")
"""The reasons of `Rejected`.

`short`: fewer octets than a header has. `response`: QR is set. `opcode`: not QUERY. `counts`: not one question, or more
records than a query has. `question`, `records`: this part is malformed or cut off.
"""


def accept(packet: bytes) -> Request | Rejected:
    """Returns the request, or the reason and the reply for a packet that is not a query or cannot be served."""
    if len(packet) < HEADER.size:
        return Rejected("short")
    ident, flags, questions, answers, authorities, additionals = HEADER.unpack_from(packet)
    if flags & QR:
        return Rejected("response")
    if flags & OPCODE_MASK:
        return Rejected("opcode", _without_question(packet, Rcode.NOTIMP))
    if not questions and not answers and not authorities and additionals == 1:
        return _cookie_request(packet, ident, flags)
    if questions != 1 or answers > 1 or authorities > 1 or additionals > 2:
        return Rejected("counts", _without_question(packet, Rcode.FORMERR))
    try:
        name, at = read_query_name(packet)
        rtype, rclass = _TWO_SHORTS.unpack_from(packet, at)
    except (FormError, struct.error):
        return Rejected("question", _header_only(ident, flags, Rcode.FORMERR))
    at += 4
    request = Request(ident, flags, name, rtype, rclass, packet[12:at])
    count = answers + authorities + additionals
    if count:
        try:
            request.edns, end = _read_records(packet, at, count, answers + authorities)
            if rtype == Type.IXFR and authorities:
                request.serial = _read_serial(packet, at, answers)
        except (FormError, struct.error) as error:
            return Rejected("records", _format_error(ident, flags, request.question, error))
        at = end
    request.trailing = len(packet) - at
    return request


def malformed(packet: bytes) -> Rejected:
    """Returns the rejection of a message whose records are malformed. Call it only for a message with a header."""
    return Rejected("records", _without_question(packet, Rcode.FORMERR))


def _cookie_request(packet: bytes, ident: int, flags: int) -> Request | Rejected:
    """Parses a request without a question, whose only record is an OPT record with a cookie."""
    try:
        edns, end = _read_records(packet, HEADER.size, 1, 0)
    except (FormError, struct.error) as error:
        return Rejected("counts", _format_error(ident, flags, b"", error))
    if edns is None or all(code != OptionCode.COOKIE for code, _ in edns.options):
        return Rejected("counts", _without_question(packet, Rcode.FORMERR))
    return Request(ident, flags, b"", 0, 0, b"", edns, trailing=len(packet) - end)


def read_query_name(packet: bytes) -> tuple[bytes, int]:
    """Returns the query name and the offset after the name.

    Raises FormError if the name is invalid or compressed.
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


def _read_records(packet: bytes, at: int, count: int, before: int) -> tuple[Edns | None, int]:
    """Reads `count` records from offset `at`. Returns the OPT record, or None, and the offset after the records.

    Raises FormError or struct.error if a record is malformed or missing. Raises FormError for a second OPT record, for
    one among the first `before` records, and for one whose owner is not the root (RFC 6891 §6.1.1, §6.1.2).
    """
    found = None
    for number in range(count):
        is_root = packet[at : at + 1] == b"\0"
        at = at + 1 if is_root else names.read_name(packet, at)[1]
        rtype, rclass, ttl, length = _FIXED.unpack_from(packet, at)
        at += 10 + length
        if at > len(packet):
            raise FormError("record cut off")
        if rtype == Type.OPT:
            if found is not None or not is_root or number < before:
                raise FormError("two OPT records, or an OPT record in a wrong place")
            try:
                found = opt.from_query(rclass, ttl, packet[at - length : at])
            except FormError as error:
                raise _OptionError(bool(ttl & opt.DO)) from error
    return found, at


def _read_serial(packet: bytes, at: int, before: int) -> int | None:
    """Skips `before` records from offset `at`, and returns the serial of the next record.

    Returns None if the next record is not a SOA record.
    """
    for _ in range(before):
        _, at = names.read_name(packet, at)
        at += 10 + _FIXED.unpack_from(packet, at)[3]
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


def _without_question(packet: bytes, rcode: int) -> bytes:
    """Returns a reply without a question.

    If the message has an OPT record, the reply has one, too (RFC 6891 §6.1.1).
    """
    ident, flags, *counts = HEADER.unpack_from(packet)
    head = _header_only(ident, flags, rcode)
    if not counts[3] or sum(counts) > MAX_SEARCHED:
        return head
    try:
        found = _find_opt(packet, counts)
    except (FormError, struct.error):
        return head
    if found is None:
        return head
    return head[:-2] + b"\0\1" + opt.to_wire(Edns(opt.DEFAULT_SIZE, found))


def _find_opt(packet: bytes, counts: list[int]) -> bool | None:
    """Returns the DO bit of the OPT record in the additional section, or None if there is no OPT record.

    `counts` has the four counts of the header. Raises FormError or struct.error if the message is malformed.
    """
    at, before = HEADER.size, counts[1] + counts[2]
    for _ in range(counts[0]):
        at = _skip_name(packet, at) + _TWO_SHORTS.size
    for number in range(before + counts[3]):
        is_root = packet[at : at + 1] == b"\0"
        at = _skip_name(packet, at)
        rtype, _, ttl, length = _FIXED.unpack_from(packet, at)
        at += _FIXED.size + length
        if at > len(packet):
            raise FormError("record cut off")
        if rtype == Type.OPT and is_root and number >= before:
            return bool(ttl & opt.DO)
    return None


def _skip_name(packet: bytes, at: int) -> int:
    """Returns the offset after a name. Compression pointers are not followed."""
    start = at
    try:
        while 0 < (length := packet[at]) <= names.MAX_LABEL:
            at += 1 + length
            if at - start >= names.MAX_NAME:
                raise FormError("name too long")
    except IndexError:
        raise FormError("name cut off") from None
    return at + 1 if not length else at + 2


def _format_error(ident: int, flags: int, question: bytes, error: Exception) -> bytes:
    """Returns a FORMERR reply. If `error` is about an option, the reply has an OPT record (RFC 6891 §7)."""
    own = b""
    if isinstance(error, _OptionError):
        own = opt.to_wire(Edns(opt.DEFAULT_SIZE, error.dnssec_ok))
    bits = _reply_bits(flags) | Rcode.FORMERR
    return HEADER.pack(ident, bits, bool(question), 0, 0, bool(own)) + question + own
