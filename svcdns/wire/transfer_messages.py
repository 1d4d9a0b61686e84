"""One reply over several messages: the answer section of a zone transfer, cut where a message is full (RFC 5936 §2.2).

Every message carries the question and the client's EDNS, as CoreDNS does; the RFC wants the question in the first alone.
Records are written one by one, so that whoever sends them can pause in between. Decides nothing about content.
"""

from __future__ import annotations

from typing import Final

from svcdns.wire import edns as opt
from svcdns.wire.codes import OPCODE_MASK, QR
from svcdns.wire.message import Sections, Writer
from svcdns.wire.record import Record
from svcdns.wire.request import HEADER, Request

FULL: Final = 63000
"""Octets of records behind which the next message begins."""


class Envelopes:
    """The messages of one reply; `reply` gives rcode, flags and EDNS, its sections are not looked at."""

    def __init__(self, request: Request, reply: Sections, echoed: frozenset[int] = opt.ECHOED_OPTIONS, full: int = FULL) -> None:
        """`echoed` as for `encode_reply`; `full` in octets."""
        edns = opt.for_reply(request.edns, reply.edns, echoed)
        self._tail = opt.to_wire(edns, reply.rcode) if edns is not None else b""
        self._flags = QR | request.flags & OPCODE_MASK | reply.flags | reply.rcode & 15
        self._request, self._full = request, full
        self._begin()

    def add(self, record: Record) -> bytes | None:
        """Writes a record; the message before it, where the record began a new one."""
        data, done = self._writer.record(record), None
        if self._count and self._writer.size + len(data) > self._full:
            done = self.last()
            self._begin()
            data = self._writer.record(record)
        self._writer.parts.append(data)
        self._writer.size += len(data)
        self._count += 1
        return done

    def last(self) -> bytes:
        """The message of the records that were added since the last one was full."""
        writer = self._writer
        writer.parts[0] = HEADER.pack(self._request.ident, self._flags, 1, self._count, 0, 1 if self._tail else 0)
        writer.parts.append(self._tail)
        return b"".join(writer.parts)

    def _begin(self) -> None:
        self._writer, self._count = Writer(self._request.question), 0
