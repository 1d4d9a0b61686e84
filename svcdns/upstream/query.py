"""A query to an upstream server, and the test whether a packet is the reply to it.

A reply comes from the server's address, and has the query's message ID, opcode, name, type and class. An error reply
may lack the question section. Any other packet is dropped, and the wait for the reply goes on (RFC 5452 §9).
"""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec

from svcdns.errors import SvcdnsError
from svcdns.wire.codes import OPCODE_MASK, QR, TC, Rcode
from svcdns.wire.errors import FormError
from svcdns.wire.message import Message, encode_query, parse_message
from svcdns.wire.record import Edns
from svcdns.wire.request import HEADER
from svcdns.wire.simple_reply import SimpleReply, scan

Address = tuple[str, int]
"""An IP address and a port."""
MAX_DATAGRAM: Final = 65535
_ERRORS_OF_THE_SERVER: Final = frozenset({Rcode.FORMERR, Rcode.SERVFAIL, Rcode.NOTIMP, Rcode.REFUSED})
"""Response codes about the server, not about the name. A reply with such a code may lack the question section."""
_IDS_AT_ONCE: Final = 512
"""Number of message IDs that are read from the system's random generator in one call."""
_LOCAL_ERRORS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}
)
"""Errors of a system call that are caused by this machine: it lacks file descriptors, memory or free ports."""


class Dropped(StrEnum):
    """The reason why a packet from an upstream is not the reply to a query. The values are labels of a metric."""

    ID = "id"
    """It has the message ID of no open query."""
    QUERY = "query"
    """It is a query, not a reply."""
    OPCODE = "opcode"
    QUESTION = "question"
    """It has another name, type or class, or no question although it is no error."""
    MALFORMED = "malformed"
    LATE = "late"
    """It came after the reply to the query."""


class ExchangeError(SvcdnsError):
    """Raised, or passed to a callback, if an upstream sent no valid reply. The text of the error is the reason.

    If `timed_out` is true, no reply was received in time. If `local` is true, the cause is on this machine.
    """

    def __init__(self, text: str, *, timed_out: bool = False, local: bool = False) -> None:
        super().__init__(text)
        self.timed_out, self.local = timed_out, local


class SpoofedError(ExchangeError):
    """Raised if a server sent invalid packets, and no valid reply soon after them.

    Over UDP, an attacker may know the source port: repeat the query over TCP.
    """


Received = SimpleReply | Message
"""A reply that belongs to its query. Only replies that are not simple are parsed (see `svcdns.wire.simple_reply`)."""
Completed = Callable[[Received | ExchangeError], None]
"""Callback of a query. It is called once, with the reply, or with the reason why there is no reply."""


class UpstreamQuery(msgspec.Struct):
    """A query to an upstream server.

    `flags` has the header bits RD, AD and CD. `wire` is the encoded query without its message ID.
    """

    name: bytes
    rtype: int
    rclass: int
    flags: int
    edns: Edns | None = None
    wire: bytes = b""

    def __post_init__(self) -> None:
        if not self.wire:
            self.wire = encode_query(0, self.flags, self.name, self.rtype, self.rclass, self.edns)[2:]

    @property
    def question_end(self) -> int:
        """Returns the offset of the end of the question section, which is the same in the query and in its reply."""
        return 16 + len(self.name)

    def without_opt(self) -> UpstreamQuery:
        """Returns the query without its OPT record."""
        return UpstreamQuery(self.name, self.rtype, self.rclass, self.flags)

    def packet(self, ident: int) -> bytes:
        """Returns the packet of the query with the message ID `ident`."""
        return ident.to_bytes(2, "big") + self.wire

    def read(self, ident: int, packet: bytes) -> Received | Dropped:
        """Returns the reply in `packet`, or the reason why `packet` is not the reply to this query.

        `ident` is the message ID of the query. The letter case of the name is ignored. An error reply without a
        question gets the question of the query.
        """
        end = 16 + len(self.name)
        if packet[12:end] == self.wire[10 : end - 2] and packet[4:6] == b"\0\1":
            if packet[:2] != ident.to_bytes(2, "big"):
                return Dropped.ID
            return scan(packet, end, self.rtype) or self._read_whole(packet)
        if len(packet) < HEADER.size:
            return Dropped.MALFORMED
        if packet[:2] != ident.to_bytes(2, "big"):
            return Dropped.ID
        return self._read_whole(packet)

    def _read_whole(self, packet: bytes) -> Message | Dropped:
        """Parses a packet with the right message ID that is not a simple reply (only addresses or a denial).

        Returns the reply, or the reason why the packet is dropped.
        """
        _, flags, questions, *_ = HEADER.unpack_from(packet)
        if not flags & QR:
            return Dropped.QUERY
        if flags & OPCODE_MASK != int.from_bytes(self.wire[:2], "big") & OPCODE_MASK:
            return Dropped.OPCODE
        if _is_error_without_question(packet):
            return Message(0, flags & ~TC, self.name, self.rtype, self.rclass)
        if questions != 1 or not self._has_question(packet):
            return Dropped.QUESTION
        try:
            message = parse_message(packet)
        except FormError:
            return Message(0, flags, self.name, self.rtype, self.rclass) if flags & TC else Dropped.MALFORMED
        if message.upper and self.edns is None:
            return Dropped.MALFORMED
        return message

    def _has_question(self, packet: bytes) -> bool:
        end = 12 + len(self.name)
        return packet[12:end].lower() == self.name.lower() and packet[end : end + 4] == self.wire[end - 2 : end + 2]


def as_message(received: Received) -> Message:
    """Returns a reply with all its records parsed."""
    return received if isinstance(received, Message) else parse_message(received.packet)


def _is_error_without_question(packet: bytes) -> bool:
    """Returns True for a FORMERR, SERVFAIL, NOTIMP or REFUSED reply without question, answer and authority sections."""
    return packet[4:10] == bytes(6) and packet[3] & 15 in _ERRORS_OF_THE_SERVER


def _id_source() -> Callable[[], int]:
    left: list[int] = []

    def draw() -> int:
        if not left:
            left.extend(struct.unpack(f"{_IDS_AT_ONCE}H", os.urandom(2 * _IDS_AT_ONCE)))
        return left.pop()

    os.register_at_fork(after_in_child=left.clear)
    return draw


random_id: Final = _id_source()
"""Returns an unpredictable message ID (RFC 5452 §9.2).

The message ID is two octets from the system's random generator. They are used for no other ID.
"""


def deliver(completed: Completed, outcome: Received | ExchangeError) -> None:
    """Calls `completed` with `outcome`.

    An exception of the callback is reported to the event loop, and not raised.
    """
    try:
        completed(outcome)
    except Exception as error:  # noqa: BLE001 - other queries wait for replies on the same socket
        report(error)


def report(error: Exception) -> None:
    """Reports an exception of a query's callback to the event loop."""
    context = {"message": "a callback for an upstream's reply failed", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)


def system_error(server: Address, error: OSError) -> ExchangeError:
    """Returns the ExchangeError for an error of the operating system."""
    return ExchangeError(
        f"{address_text(server)}: {(error.strerror or str(error)).lower()}", local=error.errno in _LOCAL_ERRORS
    )


def lying_error(server: Address, reason: str) -> SpoofedError:
    """Returns the error for a server that sent only invalid packets."""
    return SpoofedError(f"{address_text(server)}: no valid reply: {reason}")


def timeout_error(server: Address) -> ExchangeError:
    """Returns the ExchangeError for a server that did not reply in time."""
    return ExchangeError(f"{address_text(server)}: i/o timeout", timed_out=True)


def address_text(server: Address) -> str:
    """Returns `host:port`, with an IPv6 host in brackets."""
    host, port = server
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
