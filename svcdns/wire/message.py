"""Encodes replies and queries, and parses messages from upstreams (RFC 1035 §4).

Owner names, and the names in the RDATA of NS, CNAME, PTR, MX and SOA records, are compressed (RFC 1035 §4.1.4, RFC 3597
§4). If a reply is larger than the client's limit, records are removed from its end, and TC is set (RFC 2181 §9). The
OPT record is never removed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import msgspec

from svcdns.wire import edns as opt
from svcdns.wire import names, rdata_layout
from svcdns.wire.codes import OPCODE_MASK, QR, TC, Class, Rcode, Type
from svcdns.wire.errors import FormError
from svcdns.wire.record import Edns, Record
from svcdns.wire.request import HEADER, Request

MAX_MESSAGE: Final = 65535
MIN_UDP: Final = 512
MAX_EXPANSION: Final = 1 << 17
MIN_EXPANSION: Final = 1 << 12
EXPANSION_FACTOR: Final = 4
"""The names of a received message may gain this many octets from compression pointers for each octet of the message.

They may always gain MIN_EXPANSION octets, and never more than MAX_EXPANSION. This bounds the memory for a message.
"""
TRANSFER_EXPANSION: Final = 1 << 20
"""As MAX_EXPANSION, for a message of a zone transfer, which is full of compressed names."""
MIN_STEPS: Final = 256
OCTETS_PER_STEP: Final = 4
"""Each so many octets of a received message allow one more step at the target of a compression pointer.

A step is a label or a pointer (see `names.NameReader`). A message may always need MIN_STEPS steps. With MAX_EXPANSION,
this bounds the time to parse a message.
"""

_FIXED: Final = struct.Struct("!HHIH")
_EXTENDED: Final = 16
"""The first response code that needs an OPT record (RFC 6891 §6.1.3)."""
_TO_QUESTION: Final = b"\xc0\x0c"
_ADDRESSES: Final = (Type.A, Type.AAAA)
_ADDRESS_HEAD: Final = 12
"""The number of octets before the RDATA of an address record whose owner name is a compression pointer."""
ADDRESS_SIZES: Final[dict[int, int]] = {Type.A: 4, Type.AAAA: 16}
"""The number of octets of an address, by record type (RFC 1035 §3.4.1, RFC 3596 §2.2)."""
SOA_NUMBERS: Final = 20
"""The number of octets after the two names in the RDATA of a SOA record."""
_ONE_NAME: Final = frozenset({Type.NS, Type.CNAME, Type.PTR})


class Sections(Protocol):
    """The parts of a reply that the encoder reads."""

    @property
    def rcode(self) -> int:
        """Returns the response code, which may have 12 bits (RFC 6891 §6.1.3)."""
        ...

    @property
    def flags(self) -> int:
        """Returns the header bits AA, TC, RD, RA, AD and CD."""
        ...

    @property
    def answer(self) -> Sequence[Record]:
        """Returns the records of the answer section."""
        ...

    @property
    def authority(self) -> Sequence[Record]:
        """Returns the records of the authority section."""
        ...

    @property
    def additional(self) -> Sequence[Record]:
        """Returns the records of the additional section, without the OPT record."""
        ...

    @property
    def edns(self) -> Edns | None:
        """Returns the OPT record of a plugin or an upstream, or None."""
        ...

    @property
    def extended(self) -> int | None:
        """Returns the code of the extended error (RFC 8914), or None."""
        ...


def udp_limit(query_edns: Edns | None) -> int:
    """Returns the length in octets of the largest UDP reply that the client accepts.

    This is the UDP payload size in the query's OPT record, but at least 512 (RFC 6891 §6.2.3).
    """
    return MIN_UDP if query_edns is None or query_edns.size < MIN_UDP else query_edns.size


class Writer:
    """Encodes the question section and the records of one message, with name compression.

    `parts` has the pieces of the message. The first piece is empty until the header is written. `size` is the size of
    the message in octets. `known` has the offset of each name in the message.
    """

    __slots__ = ("known", "parts", "question_name", "size")

    def __init__(self, question: bytes) -> None:
        self.parts: list[bytes] = [b"", question]
        self.size = 12 + len(question)
        self.question_name = question[:-4]
        self.known: dict[bytes, int] = {}

    def name(self, name: bytes, at: int) -> bytes:
        """Returns the compressed form of `name`. The caller must write it at the offset `at`."""
        if name == self.question_name and len(name) > 1:
            return _TO_QUESTION
        if not self.known:
            self._learn(self.question_name, 12)
        cut = 0
        while name[cut]:
            offset = self.known.get(name[cut:])
            if offset is not None:
                self._learn(name, at, cut)
                return name[:cut] + (0xC000 | offset).to_bytes(2, "big")
            cut += 1 + name[cut]
        self._learn(name, at)
        return name

    def _learn(self, name: bytes, at: int, until: int = 256) -> None:
        cut = 0
        while cut < until and name[cut] and at + cut < 0x4000:
            self.known.setdefault(name[cut:], at + cut)
            cut += 1 + name[cut]

    def record(self, record: Record) -> bytes:
        """Returns the encoded record, which the caller must append to the message."""
        owner = (
            _TO_QUESTION
            if record.owner == self.question_name and len(record.owner) > 1
            else self.name(record.owner, self.size)
        )
        rdata, rtype = record.rdata, record.rtype
        if rtype in _ONE_NAME:
            rdata = self.name(rdata, self.size + len(owner) + 10)
        elif rtype == Type.MX:
            rdata = rdata[:2] + self.name(rdata[2:], self.size + len(owner) + 12)
        elif rtype == Type.SOA:
            rdata = self._soa(rdata, self.size + len(owner) + 10)
        return owner + _FIXED.pack(rtype, record.rclass, record.ttl, len(rdata)) + rdata

    def _soa(self, rdata: bytes, at: int) -> bytes:
        _, behind = names.read_name(rdata, 0)
        mname = self.name(rdata[:behind], at)
        rname = self.name(rdata[behind:-20], at + len(mname))
        return mname + rname + rdata[-20:]

    def section(self, records: Iterable[Record], limit: int) -> tuple[int, bool]:
        """Writes records, as long as the message has at most `limit` octets.

        Returns the number of records written, and True if all of them were written.
        """
        count = 0
        for record in records:
            data = self.record(record)
            if self.size + len(data) > limit:
                return count, False
            self.parts.append(data)
            self.size += len(data)
            count += 1
        return count, True


def encode_reply(
    request: Request,
    reply: Sections,
    limit: int,
    echoed: frozenset[int] = opt.NO_CODES,
    size: int = opt.DEFAULT_SIZE,
) -> bytes:
    """Returns the reply as a packet of at most `limit` octets.

    ID, opcode and question section are those of the request. The packet has an OPT record if the request has one.
    Without it, a response code above 15 becomes SERVFAIL. `echoed` has the codes of EDNS options to repeat from the
    request. `size` is the UDP payload size that the server advertises.
    """
    writer = Writer(request.question)
    edns = opt.for_reply(request.edns, reply.edns, echoed, reply.extended, size)
    rcode = reply.rcode if edns is not None or reply.rcode < _EXTENDED else Rcode.SERVFAIL
    tail = opt.to_wire(edns, rcode) if edns is not None else b""
    room = limit - len(tail)
    flags = QR | request.flags & OPCODE_MASK | reply.flags | rcode & 15
    counts = [0, 0, 0]
    for number, records in enumerate((reply.answer, reply.authority, reply.additional)):
        if records:
            counts[number], whole = writer.section(records, room)
            if not whole:
                flags |= TC
                break
    if tail:
        counts[2] += 1
        writer.parts.append(tail)
    writer.parts[0] = HEADER.pack(request.ident, flags, 1, *counts)
    return b"".join(writer.parts)


def rotations(request: Request, reply: Sections, wire: bytes, count: int) -> list[bytes]:
    """Returns `count` encoded forms of the reply. In each form, the answer section is rotated by a different amount.

    `wire` is the first form. Returns an empty list if the answer section is truncated, or has other records than
    address records of one type at the query name.
    """
    at, name, answer = 12 + len(request.question), request.name, reply.answer
    if wire[2] & TC >> 8 or len(name) < 2 or not answer or answer[0].rtype not in _ADDRESSES:
        return []
    rtype = answer[0].rtype
    for record in answer:
        if record.rtype != rtype or record.owner != name:
            return []
    return rotated(wire, at, _ADDRESS_HEAD + len(answer[0].rdata), len(answer), count)


def rotated(wire: bytes, at: int, size: int, records: int, count: int) -> list[bytes]:
    """Returns `count` forms of an encoded reply. In each form, the records are rotated by a different amount.

    There are `records` records at offset `at`, with `size` octets each. The first form is `wire` itself.
    """
    end = at + size * records
    head, section, tail = wire[:at], wire[at:end], wire[end:]
    cuts = [number * records // count * size for number in range(1, count)]
    return [wire, *[head + section[cut:] + section[:cut] + tail for cut in cuts]]


def encode_query(ident: int, flags: int, name: bytes, rtype: int, rclass: int, edns: Edns | None) -> bytes:
    """Returns a query as a packet. `flags` has header bits such as RD, AD and CD."""
    tail = opt.to_wire(edns) if edns is not None else b""
    return HEADER.pack(ident, flags & ~QR, 1, 0, 0, 1 if tail else 0) + name + struct.pack("!HH", rtype, rclass) + tail


class Message(msgspec.Struct):
    """A parsed message with one question. Names in RDATA are uncompressed. The OPT record is in `edns`.

    `upper` has the upper eight bits of the response code, from the OPT record (RFC 6891 §6.1.3). `trailing` is the
    number of octets after the last record.
    """

    ident: int
    flags: int
    name: bytes
    rtype: int
    rclass: int
    answer: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    edns: Edns | None = None
    upper: int = 0
    trailing: int = 0

    @property
    def rcode(self) -> int:
        """Returns the response code, with 12 bits if the message has an OPT record."""
        return self.upper << 4 | self.flags & 15


def parse_message(packet: bytes) -> Message:
    """Parses a message that has exactly one question.

    Octets after the last record are ignored, unless they are records that the header does not count. If the message is
    malformed, raises FormError and no other error.
    """
    try:
        ident, flags, questions, answers, authorities, additionals = HEADER.unpack_from(packet)
        if questions != 1:
            raise FormError(f"{questions} questions; 1 was expected")
        name, at = names.read_name(packet, 12)
        rtype, rclass = struct.unpack_from("!HH", packet, at)
        message = Message(ident, flags, name, rtype, rclass)
        sections = _Sections(packet, at + 4, message)
        message.answer = sections.read(answers)
        message.authority = sections.read(authorities)
        message.additional = sections.read(additionals, may_have_opt=True)
        message.trailing = len(packet) - sections.at
        if message.trailing and sections.has_records_left():
            raise FormError("more records than the header counts")
    except (struct.error, IndexError):
        raise FormError("message cut off") from None
    return message


def parse_transfer_message(packet: bytes) -> Message:
    """Parses a message of a zone transfer, which may have no question (RFC 5936 §2.2). Then the name is empty.

    Only the answer section is read. If the message is malformed, raises FormError and no other error.
    """
    try:
        ident, flags, questions, answers, _, _ = HEADER.unpack_from(packet)
        if questions > 1:
            raise FormError(f"{questions} questions; at most 1 was expected")
        name, at, rtype, rclass = b"", 12, 0, 0
        if questions:
            name, at = names.read_name(packet, 12)
            rtype, rclass = struct.unpack_from("!HH", packet, at)
            at += 4
        message = Message(ident, flags, name, rtype, rclass)
        sections = _Sections(packet, at, message)
        sections.allow(TRANSFER_EXPANSION)
        message.answer = sections.read(answers)
    except (struct.error, IndexError):
        raise FormError("message cut off") from None
    return message


class _Sections:
    """Reads the records of a message, section by section. `at` is the offset of the next record."""

    __slots__ = ("_expansion", "_message", "_names", "_packet", "at")

    def __init__(self, packet: bytes, at: int, message: Message) -> None:
        self._packet, self._message, self.at = packet, message, at
        self._names = names.NameReader(packet, MIN_STEPS + len(packet) // OCTETS_PER_STEP)
        self._expansion = min(MAX_EXPANSION, MIN_EXPANSION + EXPANSION_FACTOR * len(packet))
        """The number of octets that names may still gain from compression pointers."""

    def allow(self, expansion: int) -> None:
        """Allows names to gain `expansion` octets from compression pointers."""
        self._expansion = expansion

    def read(self, count: int, *, may_have_opt: bool = False) -> tuple[Record, ...]:
        """Returns the records of a section, without the OPT record. Raises FormError, struct.error or IndexError.

        An OPT record is allowed if `may_have_opt` is true: in the additional section (RFC 6891 §6.1.1).
        """
        records, packet, message, at = [], self._packet, self._message, self.at
        for _ in range(count):
            if packet[at : at + 2] == _TO_QUESTION:
                owner, at = message.name, at + 2
            else:
                owner, at = self._read_name(at)
            rtype, rclass, ttl, length = _FIXED.unpack_from(packet, at)
            at += 10
            if at + length > len(packet):
                raise FormError("record cut off")
            if rtype == Type.OPT:
                if not may_have_opt or message.edns is not None or owner != names.ROOT:
                    raise FormError("OPT record that does not belong here")
                message.edns = opt.from_record(rclass, ttl, packet[at : at + length])
                message.upper = ttl >> 24
            else:
                rdata = self._read_rdata(at, length, rtype, rclass)
                records.append(Record(owner, rtype, 0 if ttl > 0x7FFFFFFF else ttl, rdata, rclass))  # RFC 2181 §8
            at += length
        self.at = at
        return tuple(records)

    def has_records_left(self) -> bool:
        """Returns True if the rest of the packet consists of records of a type other than 0."""
        packet, at = self._packet, self.at
        try:
            while at < len(packet):
                _, at = self._read_name(at)
                rtype, _, _, length = _FIXED.unpack_from(packet, at)
                at += 10 + length
                if not rtype:
                    return False
        except (FormError, struct.error):
            return False
        return at == len(packet)

    def _read_name(self, at: int) -> tuple[bytes, int]:
        name, end = self._names.read(at)
        self._expansion -= len(name) - (end - at)
        if self._expansion < 0:
            raise FormError("too many compressed names")
        return name, end

    def _read_rdata(self, at: int, length: int, rtype: int, rclass: int) -> bytes:
        packet, end = self._packet, at + length
        layout = _NAMES_IN_RDATA.get(rtype)
        if layout is None:
            if rtype == Type.NAPTR:
                return self._read_naptr(at, end)
            rdata = packet[at:end]
            if rclass == Class.IN:
                if ADDRESS_SIZES.get(rtype, length) != length:
                    raise FormError("address of a wrong size")
                rdata_layout.check(rtype, rdata)
            return rdata
        skip, count, rest = layout
        if not skip and count == 1:  # the most frequent types
            name, at = self._read_name(at)
            if at == end:
                return name
            if at > end or rtype not in _OPEN_ENDED:
                raise FormError("RDATA of a wrong size")
            return name + packet[at:end]
        parts = [packet[at : at + skip]]
        at += skip
        for _ in range(count):
            name, at = self._read_name(at)
            parts.append(name)
        if at + rest > end or (at + rest < end and rtype not in _OPEN_ENDED):
            raise FormError("RDATA of a wrong size")
        parts.append(packet[at:end])
        return b"".join(parts)

    def _read_naptr(self, at: int, end: int) -> bytes:
        """Returns the RDATA of a NAPTR record with its name uncompressed (RFC 3403 §4.1)."""
        packet, cut = self._packet, at + 4
        for _ in range(3):
            cut += 1 + packet[cut]
        name, behind = self._read_name(cut)
        if behind != end:
            raise FormError("RDATA of a wrong size")
        return packet[at:cut] + name


_NAMES_IN_RDATA: Final[dict[int, tuple[int, int, int]]] = {
    Type.NS: (0, 1, 0), Type.CNAME: (0, 1, 0), Type.PTR: (0, 1, 0), Type.DNAME: (0, 1, 0), Type.MB: (0, 1, 0),
    Type.MD: (0, 1, 0), Type.MF: (0, 1, 0), Type.MG: (0, 1, 0), Type.MR: (0, 1, 0), Type.NXT: (0, 1, 0),
    Type.MX: (2, 1, 0), Type.AFSDB: (2, 1, 0), Type.RT: (2, 1, 0), Type.KX: (2, 1, 0), Type.SRV: (6, 1, 0),
    Type.MINFO: (0, 2, 0), Type.RP: (0, 2, 0), Type.SOA: (0, 2, SOA_NUMBERS), Type.PX: (2, 2, 0), Type.SIG: (18, 1, 0),
}  # fmt: skip
"""The types whose RDATA may have compressed names (RFC 3597 §4).

For each type: the number of octets before the first name, the number of names, and the number of octets after them.
"""
_OPEN_ENDED: Final = frozenset({Type.NXT, Type.SIG})
"""The types of `_NAMES_IN_RDATA` whose RDATA may be of any length after the names."""
