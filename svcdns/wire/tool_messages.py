"""Messages for the command-line tools: encodes queries, and converts the RDATA of replies to text.

The server does not use this module. Only this module imports dnslib.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from dnslib import DNSBuffer, DNSError, DNSHeader, DNSLabel, DNSQuestion, DNSRecord, EDNSOption
from dnslib.bimap import BimapError
from dnslib.buffer import BufferError as DnslibBufferError
from dnslib.dns import QTYPE, RD, RDMAP, RR

from svcdns.wire import names
from svcdns.wire.codes import Type, class_text, type_text
from svcdns.wire.errors import FormError

SHOWN: Final = frozenset(
    {Type.A, Type.AAAA, Type.CNAME, Type.PTR, Type.NS, Type.DNAME, Type.MX, Type.SRV, Type.SOA, Type.TXT}
)
"""The types whose RDATA is printed in the form of the type. Other RDATA is printed as in RFC 3597 §5."""


class Question(NamedTuple):
    """The question of a query. `name` is a wire name."""

    name: bytes
    rtype: int
    rclass: int


class OptRecord(NamedTuple):
    """An OPT record: UDP payload size in octets, TTL field (RFC 6891 §6.1.3), and options as pairs of code and data."""

    size: int
    ttl: int
    options: tuple[tuple[int, bytes], ...] = ()


class _Buffer(DNSBuffer):  # type: ignore[misc]  # dnslib has no annotations
    """A dnslib buffer that does not compress names."""

    def encode_name(self, name: object) -> None:
        self.encode_name_nocompress(name)


def query(ident: int, flags: int, questions: Iterable[Question], opts: Iterable[OptRecord] = ()) -> bytes:
    """Returns the encoded query, which has no records except OPT (RFC 1035 §4.1).

    `flags` is the second word of the header, with the opcode.
    """
    asked = [DNSQuestion(_label(one.name), one.rtype, one.rclass) for one in questions]
    extra = [RR("", QTYPE.OPT, one.size, one.ttl, [EDNSOption(*option) for option in one.options]) for one in opts]
    buffer = _Buffer()
    DNSHeader(ident, flags, q=len(asked), ar=len(extra)).pack(buffer)
    for part in (*asked, *extra):
        part.pack(buffer)
    return bytes(buffer.data)


def question(one: Question) -> bytes:
    """Returns the encoded question."""
    buffer = _Buffer()
    DNSQuestion(_label(one.name), one.rtype, one.rclass).pack(buffer)
    return bytes(buffer.data)


def answer(packet: bytes) -> tuple[int, list[str]]:
    """Returns the rcode of a reply, and the records of its answer section as zone file lines. Raises FormError."""
    try:
        reply = DNSRecord.parse(packet)
    except (DNSError, DnslibBufferError, BimapError, ValueError) as error:
        raise FormError(str(error)) from error
    return reply.header.rcode, [
        f"{record.rname} {record.ttl} {class_text(record.rclass)} {type_text(record.rtype)} {_shown(record.rdata)}"
        for record in reply.rr
    ]


def data_text(packet: bytes, at: int, end: int, rtype: int) -> str:
    """Returns the RDATA between the offsets `at` and `end` of a message as text. Raises FormError."""
    kind: type[RD] = RDMAP[type_text(rtype)] if rtype in SHOWN else RD
    buffer = DNSBuffer(packet)
    buffer.offset = at
    try:
        data = kind.parse(buffer, end - at)
    except (DNSError, DnslibBufferError, BimapError, ValueError) as error:
        raise FormError(f"{type_text(rtype)}: {error}") from error
    if buffer.offset != end:
        raise FormError(f"{type_text(rtype)} with a wrong RDLENGTH")
    return _shown(data)


def _label(name: bytes) -> DNSLabel:
    return DNSLabel(names.labels_of(name))


def _shown(data: RD) -> str:
    text: str = data.toZone()
    return text.lower() if type(data) is RD else text


def record_line(owner: bytes, ttl: int, rtype: int, rdata: bytes) -> str:
    """Returns a record of class IN as a zone file line. `owner` is a wire name. Names in `rdata` are not compressed."""
    try:
        data = data_text(rdata, 0, len(rdata), rtype)
    except FormError:
        data = f"\\# {len(rdata)} {rdata.hex()}"
    return f"{names.to_text(owner)} {ttl} IN {type_text(rtype)} {data}"
