"""Encodes the messages of a zone transfer (RFC 5936 §2.2): one answer section, divided into several messages.

As in CoreDNS, every message has the question section and EDNS. Records are added one at a time, so that the sender can
pause between them.
"""

from __future__ import annotations

from typing import Final

from svcdns.wire import edns as opt
from svcdns.wire.codes import OPCODE_MASK, QR
from svcdns.wire.message import Sections, Writer
from svcdns.wire.record import Record
from svcdns.wire.request import HEADER, Request

FULL: Final = 63000
"""The size of a message in octets. A record that would exceed it begins the next message."""


class TransferMessages:
    """Encodes the messages of one zone transfer.

    Each message has the rcode, flags and EDNS of `reply`, whose sections are ignored.
    """

    def __init__(
        self,
        request: Request,
        reply: Sections,
        echoed: frozenset[int] = opt.NO_CODES,
        size: int = opt.DEFAULT_SIZE,
        full: int = FULL,
    ) -> None:
        """`echoed` and `size` are those of `encode_reply`. `full` is the size of a message in octets."""
        edns = opt.for_reply(request.edns, reply.edns, echoed, size=size)
        self._tail = opt.to_wire(edns, reply.rcode) if edns is not None else b""
        self._flags = QR | request.flags & OPCODE_MASK | reply.flags | reply.rcode & 15
        self._request, self._full = request, full
        self._begin()

    def add(self, record: Record) -> bytes | None:
        """Adds a record.

        If the present message is full, returns it and begins a new message, otherwise returns None.
        """
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
        """Returns the last message."""
        writer = self._writer
        writer.parts[0] = HEADER.pack(self._request.ident, self._flags, 1, self._count, 0, 1 if self._tail else 0)
        writer.parts.append(self._tail)
        return b"".join(writer.parts)

    def _begin(self) -> None:
        self._writer, self._count = Writer(self._request.question), 0
