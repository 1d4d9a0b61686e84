"""Recognises simple replies of upstreams without parsing every record.

A simple reply needs no further check, so its octets can be stored as they are. All its records are in class IN, and it
is not truncated. Besides an OPT record, it has one of these:

- Addresses: records of the query type, whose owner is the query name or the last target of a chain of CNAME records.
- A denial (RFC 2308 §2): no answer, and the SOA record of a zone that contains the query name. The owner name of the
  SOA record is a compression pointer into the question.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from svcdns.wire import edns as opt
from svcdns.wire.codes import OPCODE_MASK, QR, TC, Class, Rcode, Type
from svcdns.wire.errors import FormError
from svcdns.wire.message import ADDRESS_SIZES, SOA_NUMBERS
from svcdns.wire.names import read_name

MAX_ALIASES: Final = 64
"""The most CNAME and DNAME records on the chain of a reply. Longer chains are not followed."""
_COUNTS: Final = struct.Struct("!HHHHH")
_RECORD: Final = struct.Struct("!HHHIH")
_FIXED: Final = struct.Struct("!HHIH")
_TTL: Final = struct.Struct("!I")
_HEAD: Final = 12
_IN: Final = int(Class.IN)
_TOO_LONG: Final = 1 << 31
"""TTLs of this value or more count as 0 (RFC 2181 §8)."""
_TO_QUESTION: Final = 0xC00C
_POINTER: Final = 0xC000
_COMPRESSED: Final = 0xC0
_FARTHEST: Final = 0x3FFF
"""The largest offset that a compression pointer can point to."""
_OPT: Final = b"\0\0\x29"
_OPT_HEAD: Final = 11
_ONE_ANSWER: Final = b"\0\1\0\0\0\0"
"""ANCOUNT, NSCOUNT and ARCOUNT of a reply with one record."""
_ADDRESS_HEADS: Final = {
    rtype: (
        _TO_QUESTION.to_bytes(2, "big") + int(rtype).to_bytes(2, "big") + _IN.to_bytes(2, "big"),
        octets.to_bytes(2, "big"),
        _HEAD + octets,
    )
    for rtype, octets in ADDRESS_SIZES.items()
}
"""For each type of address records: owner, type and class of a record at the query name, its RDLENGTH, and its size."""
_CHECKED_FLAGS: Final = QR | OPCODE_MASK | TC
"""A simple reply has QR set, the opcode QUERY, and is not truncated."""


class SimpleReply(msgspec.Struct, frozen=True, gc=False):
    """A reply that `scan` has accepted. Offsets count from the first octet of `packet`.

    - The question section ends at `start`, and the records other than OPT end at `end`.
    - Address records begin at `addresses` (0 for a denial), and have `size` octets each.
    - `ttls` has the offsets of the TTL fields. `ttl` is the smallest TTL in seconds.
    - `aliases` has the targets of the CNAME records, in lower case.
    """

    packet: bytes
    start: int
    end: int
    rcode: int
    ttl: int
    ttls: tuple[int, ...]
    addresses: int = 0
    size: int = 0
    aliases: tuple[bytes, ...] = ()

    @property
    def is_denial(self) -> bool:
        """Returns True if the reply denies the name, or its records of the query type."""
        return not self.addresses


def scan(packet: bytes, start: int, rtype: int) -> SimpleReply | None:
    """Returns the parsed reply if it is simple (only addresses or a denial), otherwise None.

    `start` is the offset after the question section. `rtype` is the query type.
    """
    head = _ADDRESS_HEADS.get(rtype)
    if head is not None and packet[start : start + 6] == head[0] and packet[6:12] == _ONE_ANSWER:
        # one address and no other record: the usual reply
        ttl_at, end, length, first, second = start + 6, start + head[2], head[1], packet[2], packet[3]
        if packet[ttl_at + 4 : ttl_at + 6] == length and end == len(packet) and packet[ttl_at] < _TOO_LONG >> 24:
            if first & _CHECKED_FLAGS >> 8 == QR >> 8 and not second & 15:
                ttl = int.from_bytes(packet[ttl_at : ttl_at + 4], "big")
                return SimpleReply(packet, start, end, 0, ttl, (ttl_at,), start, head[2])
            return None
    try:
        flags, _, answers, authorities, additionals = _COUNTS.unpack_from(packet, 2)
        if flags & _CHECKED_FLAGS != QR:
            return None
        if answers and not authorities and not flags & 15:
            found = _addresses(packet, start, answers, rtype)
        elif authorities == 1 and not answers and flags & 15 in (Rcode.NOERROR, Rcode.NXDOMAIN):
            found = _denial(packet, start, flags & 15)
        else:
            return None
        if found is None:
            return None
        return (
            found
            if (found.end == len(packet) if not additionals else _ends_in_opt(packet, found.end, additionals))
            else None
        )
    except (struct.error, IndexError, FormError):
        return None


def _addresses(packet: bytes, start: int, count: int, rtype: int) -> SimpleReply | None:
    length = ADDRESS_SIZES.get(rtype)
    if length is None:
        return None
    name, kind, rclass, ttl, octets = _RECORD.unpack_from(packet, start)
    if count == 1 and kind == rtype and name == _TO_QUESTION and rclass == _IN and octets == length and ttl < _TOO_LONG:
        return SimpleReply(packet, start, start + _HEAD + length, 0, ttl, (start + 6,), start, _HEAD + length)
    at, owner, ttls, smallest, targets = (
        _aliases(packet, start, count) if kind == Type.CNAME else (start, _TO_QUESTION, [], _TOO_LONG, [])
    )
    addresses, size = at, _HEAD + length
    for _ in range(count - len(ttls)):
        name, kind, rclass, ttl, octets = _RECORD.unpack_from(packet, at)
        if name != owner or kind != rtype or rclass != _IN or octets != length or ttl >= _TOO_LONG:
            return None
        ttls.append(at + 6)
        smallest = min(smallest, ttl)
        at += size
    if at == addresses:
        return None
    return SimpleReply(packet, start, at, 0, smallest, tuple(ttls), addresses, size, tuple(targets))


def _aliases(packet: bytes, at: int, count: int) -> tuple[int, int, list[int], int, list[bytes]]:
    """Reads the CNAME records at the beginning of the answer section.

    Returns the offset after these records, a compression pointer to the last target, the offsets of the TTL fields, the
    smallest TTL, and the targets in lower case. Raises FormError if the records are not a chain, or if the chain has a
    loop or more than MAX_ALIASES records.
    """
    owner, smallest = _TO_QUESTION, _TOO_LONG
    ttls: list[int] = []
    targets: list[bytes] = []
    known: set[int] = set()
    asked, _ = _read_name(packet, _HEAD, known)
    passed = {asked}
    for _ in range(count):
        name, kind, rclass, ttl, octets = _RECORD.unpack_from(packet, at)
        if kind != Type.CNAME:
            break
        data = at + _HEAD
        target, end = _read_name(packet, data, known)
        if (
            name != owner
            or len(targets) >= MAX_ALIASES
            or rclass != _IN
            or ttl >= _TOO_LONG
            or end != data + octets
            or target in passed
            or data > _FARTHEST
        ):
            raise FormError("CNAME records that are no chain")
        passed.add(target)
        targets.append(target)
        ttls.append(at + 6)
        smallest = min(smallest, ttl)
        owner = (
            int.from_bytes(packet[data:end], "big") if octets == 2 and packet[data] >= _COMPRESSED else _POINTER | data
        )
        at = end
    return at, owner, ttls, smallest, targets


def _denial(packet: bytes, start: int, rcode: int) -> SimpleReply | None:
    owner, kind, rclass, ttl, octets = _RECORD.unpack_from(packet, start)
    data = start + _HEAD
    end = data + octets
    known: set[int] = set()
    _read_name(packet, _HEAD, known)
    if (
        owner & _POINTER != _POINTER
        or owner & _FARTHEST not in known
        or kind != Type.SOA
        or rclass != _IN
        or ttl >= _TOO_LONG
        or end > len(packet)
    ):
        return None
    _, at = _read_name(packet, data, known)
    _, at = _read_name(packet, at, known)
    if at + SOA_NUMBERS != end:
        return None
    return SimpleReply(packet, start, end, rcode, ttl, (start + 6,))


def _read_name(packet: bytes, at: int, known: set[int]) -> tuple[bytes, int]:
    """Returns the name at offset `at` in lower case, and the offset after the name.

    Adds the offsets of the name's labels to `known`. Raises FormError if a compression pointer points to an offset that
    is not in `known`.
    """
    name, end = read_name(packet, at)
    while (length := packet[at]) and length < _COMPRESSED:
        known.add(at)
        at += 1 + length
    if not length:
        known.add(at)
    elif (length & 0x3F) << 8 | packet[at + 1] not in known:
        raise FormError("pointer to no name")
    return name.lower(), end


def _ends_in_opt(packet: bytes, at: int, additionals: int) -> bool:
    """Returns True if the rest of the packet is exactly one OPT record, and its upper bits of the rcode are 0."""
    if additionals != 1 or packet[at : at + 3] != _OPT:
        return False
    _, size, ttl, octets = _FIXED.unpack_from(packet, at + 1)
    at += _OPT_HEAD
    if ttl >> 24 or at + octets != len(packet):
        return False
    if octets:
        opt.from_record(size, ttl, packet[at:])
    return True


def with_ttl(plain: SimpleReply, ttl: int) -> bytes:
    """Returns the octets of the reply's records, from `start` to `end`, with the TTL `ttl` in every record."""
    packet, shown = plain.packet, _TTL.pack(ttl)
    if len(plain.ttls) == 1:
        [at] = plain.ttls
        return packet[plain.start : at] + shown + packet[at + 4 : plain.end]
    out = bytearray(packet[plain.start : plain.end])
    for at in plain.ttls:
        out[at - plain.start : at - plain.start + 4] = shown
    return bytes(out)
