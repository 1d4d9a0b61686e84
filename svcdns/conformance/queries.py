"""The queries of the suite, well-formed or malformed on purpose, as a packet, as text, and as a `dig` command.

Sources: RFC 1035 §4.1, RFC 6891 §6.1; the dig manual (BIND 9.18).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Self

from svcdns.wire import names, tool_messages
from svcdns.wire.codes import RD, Class, Type, class_text, type_text
from svcdns.wire.tool_messages import OptRecord, Question

_DIG_FLAGS: Final = (
    (0x0400, "+aaflag"),
    (0x0200, "+tcflag"),
    (0x0080, "+raflag"),
    (0x0040, "+zflag"),
    (0x0020, "+adflag"),
    (0x0010, "+cdflag"),
)

UDP_SIZE: Final = 1232
"""The UDP payload size in ordinary queries of the suite.

Packets of this size pass every usual network path (DNS flag day 2020).
"""


@dataclass(frozen=True, slots=True)
class Opt:
    """An OPT record to send.

    `size` is the UDP payload size in octets. `flags` has the 16 flag bits (DO is 0x8000). `options` has pairs of code
    and data.
    """

    size: int = UDP_SIZE
    version: int = 0
    flags: int = 0
    options: tuple[tuple[int, bytes], ...] = ()

    def record(self) -> OptRecord:
        """Returns the OPT record to put into the additional section (RFC 6891 §6.1.2)."""
        return OptRecord(self.size, self.version << 16 | self.flags, self.options)

    def dig(self) -> str:
        """Returns the command-line options with which `dig` sends this record."""
        words = [f"+edns={self.version}", f"+bufsize={self.size}"]
        if self.flags & 0x8000:
            words.append("+dnssec")
        if self.flags & 0x7FFF:
            words.append(f"+ednsflags={self.flags & 0x7FFF:#x}")
        words += [f"+ednsopt={code}" + (f":{data.hex()}" if data else "") for code, data in self.options]
        return " ".join(words + (["+noednsneg"] if self.version else []))


@dataclass(frozen=True, slots=True)
class Query:
    """A query to send.

    `name` is text with or without its final dot. `flags` has header bits without the opcode. Several OPT records in
    `opts` are malformed on purpose. The question occurs `repeat` times, which is also QDCOUNT.
    """

    name: str
    rtype: int = Type.A
    rclass: int = Class.IN
    flags: int = RD
    opcode: int = 0
    opts: tuple[Opt, ...] = ()
    tcp: bool = False
    repeat: int = 1

    def packet(self, ident: int) -> bytes:
        """Returns the query as a message (RFC 1035 §4.1)."""
        flags = self.flags & 0x87FF | self.opcode << 11
        return tool_messages.query(ident, flags, [self._question] * self.repeat, [opt.record() for opt in self.opts])

    @property
    def section(self) -> bytes:
        """Returns the octets of one question in the question section."""
        return tool_messages.question(self._question)

    @property
    def _question(self) -> Question:
        return Question(names.from_text(self.name), self.rtype, self.rclass)

    def over_tcp(self) -> Self:
        """Returns the same query, to be sent over TCP."""
        return replace(self, tcp=True)

    def dig(self, host: str, port: int) -> str:
        """Returns the `dig` command that sends this query.

        If dig cannot send the query, returns a shell command that sends its octets.
        """
        if self.repeat > 1 or len(self.opts) > 1 or self.flags & 0x8000:
            return raw_line(self.packet(0x1234), host, port)
        words = [f"dig @{host} -p {port}", "+noall +comments +question +answer +authority +additional", "+ignore"]
        words += ["+recurse" if self.flags & RD else "+norecurse", "+tcp" if self.tcp else "+notcp"]
        flags = [word for bit, word in _DIG_FLAGS if self.flags & bit]
        words += [*flags, *([] if self.flags & 0x20 else ["+noadflag"])]
        words.append(" ".join(["+nocookie", *(opt.dig() for opt in self.opts)]) if self.opts else "+noedns")
        if self.opcode:
            words.append(f"+opcode={self.opcode}")
        if not self.repeat:
            return " ".join([*words, "+header-only"])
        return " ".join(
            [
                *words,
                *([f"-c {class_text(self.rclass)}"] if self.rclass != Class.IN else []),
                f"-t {type_text(self.rtype)}",
                f"-q '{self.name}'",
            ]
        )

    def __str__(self) -> str:
        """Returns the query as one line. Differences from an ordinary query are in brackets."""
        notes = ["TCP"] if self.tcp else []
        if self.opcode:
            notes.append(f"opcode {self.opcode}")
        if self.repeat != 1:
            notes.append(f"{self.repeat} questions")
        if self.flags != RD:
            notes.append(f"flags {self.flags:#06x}")
        for opt in self.opts:
            codes = " ".join(str(code) for code, _ in opt.options)
            notes.append(
                f"EDNS {opt.version} size {opt.size} flags {opt.flags:#x}" + (f" options {codes}" if codes else "")
            )
        return f"{self.name} {class_text(self.rclass)} {type_text(self.rtype)}" + (
            f" [{', '.join(notes)}]" if notes else ""
        )


@dataclass(frozen=True, slots=True)
class Octets:
    """A packet that is not a valid message. `what` describes the packet.

    The packet is sent unchanged, except for its ID.
    """

    what: str
    data: bytes = field(repr=False)
    tcp: bool = False

    def packet(self, ident: int) -> bytes:
        """Returns the packet with `ident` as its first two octets. A shorter packet stays unchanged."""
        return ident.to_bytes(2, "big") + self.data[2:] if len(self.data) >= 2 else self.data

    def dig(self, host: str, port: int) -> str:
        """Returns the shell command that sends the octets."""
        return raw_line(self.data, host, port)

    def __str__(self) -> str:
        """Returns the size and the description of the packet."""
        return f"{len(self.data)} octets: {self.what}"


def raw_line(packet: bytes, host: str, port: int) -> str:
    """Returns a shell command that sends octets over UDP and prints the reply."""
    return f"echo {packet.hex()} | xxd -r -p | nc -u -w 2 {host} {port} | xxd"
