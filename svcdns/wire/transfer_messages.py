"""The messages of a zone transfer (RFC 5936 §2.2): one answer section, divided where a message is full.

Every message has the question section and the query's EDNS, as in CoreDNS; the RFC requires the question in the first
message only. Records are written one by one, so that the sender can pause in between. Nothing here decides about the
content.
"""

from __future__ import annotations

from typing import Final

from svcdns.wire import edns as opt
from svcdns.wire.codes import OPCODE_MASK, QR
from svcdns.wire.message import Sections, Writer
from svcdns.wire.record import Record
from svcdns.wire.request import HEADER, Request

FULL: Final = 63000
"""Octets of a message at which the next one begins."""


class TransferMessages:
    """The messages of one reply. Rcode, flags and EDNS are those of `reply`; its sections are ignored."""

    def __init__(
        self, request: Request, reply: Sections, echoed: frozenset[int] = opt.ECHOED_OPTIONS, full: int = FULL
    ) -> None:
        """`echoed` as for `encode_reply`; `full` in octets."""
        edns = opt.for_reply(request.edns, reply.edns, echoed)
        self._tail = opt.to_wire(edns, reply.rcode) if edns is not None else b""
        self._flags = QR | request.flags & OPCODE_MASK | reply.flags | reply.rcode & 15
        self._request, self._full = request, full
        self._begin()

    def add(self, record: Record) -> bytes | None:
        """Writes a record. Returns the complete message before it if the record begins a new one."""
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
        """The message of the records that were added since the last complete one."""
        writer = self._writer
        writer.parts[0] = HEADER.pack(self._request.ident, self._flags, 1, self._count, 0, 1 if self._tail else 0)
        writer.parts.append(self._tail)
        return b"".join(writer.parts)

    def _begin(self) -> None:
        self._writer, self._count = Writer(self._request.question), 0
