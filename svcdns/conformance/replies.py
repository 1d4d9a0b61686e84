"""Parses replies strictly: every count must be right, and every octet must belong to a record.

This parser is separate from `wire.message`, which ignores some errors. Names are parsed by `wire.names`, RDATA by
dnslib. Source: RFC 1035 §4.1, RFC 6891 §6.1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from svcdns.wire import names, tool_messages
from svcdns.wire.codes import AA, AD, CD, QR, RA, RD, TC, Type, Z, class_text, rcode_text, type_text
from svcdns.wire.errors import FormError

_FLAGS: Final = ((QR, "qr"), (AA, "aa"), (TC, "tc"), (RD, "rd"), (RA, "ra"), (Z, "z"), (AD, "ad"), (CD, "cd"))


@dataclass(frozen=True, slots=True)
class Line:
    """A record as text.

    Names have a final dot. `data` is the RDATA in the format of zone files. Names and RDATA keep the letter case that
    was received.
    """

    owner: str
    rtype: int
    rclass: int
    ttl: int
    data: str

    def __str__(self) -> str:
        """Returns the record in the format of zone files."""
        return f"{self.owner} {self.ttl} {class_text(self.rclass)} {type_text(self.rtype)} {self.data}"


@dataclass(frozen=True, slots=True)
class ReplyOpt:
    """The OPT record of a reply: UDP payload size in octets, version, flag bits and options."""

    size: int
    version: int
    flags: int
    options: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """A parsed reply.

    `questions` has the octets of each question. `rcode` includes the upper bits from the OPT record. `size` is the size
    of the packet in octets.
    """

    ident: int
    flags: int
    rcode: int
    questions: tuple[bytes, ...]
    answer: tuple[Line, ...]
    authority: tuple[Line, ...]
    additional: tuple[Line, ...]
    opt: ReplyOpt | None
    size: int

    @property
    def opcode(self) -> int:
        """Returns the opcode in the header (RFC 1035 §4.1.1)."""
        return self.flags >> 11 & 15

    def has(self, flag: int) -> bool:
        """Returns True if the header bit `flag` is set."""
        return bool(self.flags & flag)

    def data(self, rtype: int) -> list[str]:
        """Returns the RDATA of each record of a type in the answer section, in order and in lower case."""
        return [line.data.lower() for line in self.answer if line.rtype == rtype]

    def __str__(self) -> str:
        """Returns a line with rcode, flags, OPT record and size, and a line for each of the first records."""
        flags = " ".join(name for bit, name in _FLAGS if self.flags & bit)
        opt = f", OPT version {self.opt.version} size {self.opt.size} flags {self.opt.flags:#x}" if self.opt else ""
        if self.opt and self.opt.options:
            opt += " options " + " ".join(f"{code}:{data.hex()}" for code, data in self.opt.options)
        lines = [f"{rcode_text(self.rcode)} ({flags}{opt}), {self.size} octets"]
        for title, section in (("answer", self.answer), ("authority", self.authority), ("additional", self.additional)):
            lines += [f"{title}: {line}" for line in section[:6]]
            if len(section) > 6:
                lines.append(f"{title}: {len(section) - 6} more")
        return "\n".join(lines)


def read_reply(packet: bytes) -> Reply:
    """Parses a reply. Raises FormError with the reason if the reply is malformed."""
    if len(packet) < 12:
        raise FormError(f"{len(packet)} octets; a header has 12")
    ident, flags, *counts = struct.unpack_from("!HHHHHH", packet)
    reader = _Reader(packet)
    try:
        questions = tuple(reader.question() for _ in range(counts[0]))
        sections = [reader.section(count, last=number == 2) for number, count in enumerate(counts[1:])]
    except (struct.error, IndexError):
        raise FormError("truncated message") from None
    if reader.at != len(packet):
        raise FormError(f"{len(packet) - reader.at} octets after the last record")
    rcode = flags & 15 | reader.upper_rcode << 4
    return Reply(ident, flags, rcode, questions, sections[0], sections[1], sections[2], reader.opt, len(packet))


class _Reader:
    def __init__(self, packet: bytes) -> None:
        self.packet, self.at = packet, 12
        self.opt: ReplyOpt | None = None
        self.upper_rcode = 0

    def question(self) -> bytes:
        start = self.at
        _, self.at = names.read_name(self.packet, self.at)
        self.at += 4
        if self.at > len(self.packet):
            raise FormError("truncated question section")
        return self.packet[start : self.at]

    def section(self, count: int, *, last: bool) -> tuple[Line, ...]:
        lines = []
        for _ in range(count):
            owner, self.at = names.read_name(self.packet, self.at)
            rtype, rclass, ttl, length = struct.unpack_from("!HHIH", self.packet, self.at)
            self.at += 10
            end = self.at + length
            if end > len(self.packet):
                raise FormError("truncated record")
            if rtype == Type.OPT:
                self._opt(owner, rclass, ttl, self.packet[self.at : end], last=last)
            else:
                data = tool_messages.data_text(self.packet, self.at, end, rtype)
                lines.append(Line(names.to_text(owner), rtype, rclass, ttl, data))
            self.at = end
        return tuple(lines)

    def _opt(self, owner: bytes, rclass: int, ttl: int, rdata: bytes, *, last: bool) -> None:
        if self.opt is not None or owner != names.ROOT or not last:
            raise FormError("an OPT record besides the one at the root in the additional section (RFC 6891 §6.1.1)")
        options, at = [], 0
        while at < len(rdata):
            code, length = struct.unpack_from("!HH", rdata, at)
            at += 4 + length
            if at > len(rdata):
                raise FormError("truncated EDNS option")
            options.append((code, rdata[at - length : at]))
        self.opt = ReplyOpt(rclass, ttl >> 16 & 0xFF, ttl & 0xFFFF, tuple(options))
        self.upper_rcode = ttl >> 24
