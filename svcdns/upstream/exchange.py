"""What is asked of a server, and which reply counts.

A reply counts only if it comes from where the question went, with its id, and with its name, type and class; anything else is dropped and
does not end the wait (RFC 5452 §9). Nothing is sent from here: see `datagrams` and `streams`."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from typing import Final

import msgspec

from svcdns.errors import SvcdnsError
from svcdns.wire.codes import TC
from svcdns.wire.errors import FormError
from svcdns.wire.message import Message, encode_query, parse_message
from svcdns.wire.question import HEADER
from svcdns.wire.reply import Edns

Address = tuple[str, int]
MAX_DATAGRAM: Final = 65535
_IDENTS: Final = 512
"""Ids that are taken from the system's generator at a time."""
_TAIL: Final = struct.Struct("!HH")
_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN})
"""Errors that mean a lack of something here: descriptors, memory, ports."""


class ExchangeError(SvcdnsError):
    """The server gave no reply that counts; the text says why, as a log line ends.

    `silent` means that nothing came at all, `ours` that the reason lies with this machine and says nothing of the server.
    """

    def __init__(self, text: str, *, silent: bool = False, ours: bool = False) -> None:
        super().__init__(text)
        self.silent, self.ours = silent, ours


class Question(msgspec.Struct, frozen=True):
    """What is asked of a server; `flags` are the header bits RD, AD and CD."""

    name: bytes
    rtype: int
    rclass: int
    flags: int
    edns: Edns | None = None

    def packet(self, ident: int) -> bytes:
        """The question with that id."""
        return encode_query(ident, self.flags, self.name, self.rtype, self.rclass, self.edns)


class Judge:
    """Tells the reply to one question from any other message (RFC 5452 §9)."""

    __slots__ = ("_end", "_ident", "_key", "_tail")

    def __init__(self, question: Question, ident: int) -> None:
        self._ident, self._key = ident.to_bytes(2, "big"), question.name.lower()
        self._tail = _TAIL.pack(question.rtype, question.rclass)
        self._end = 12 + len(self._key)

    def admits(self, packet: bytes) -> bool:
        """Whether it is a reply with this id, name, type and class; the case of letters does not matter."""
        end = self._end
        return (
            packet[:2] == self._ident
            and packet[2:3] >= b"\x80"
            and packet[4:6] == b"\0\1"
            and packet[end : end + 4] == self._tail
            and packet[12:end].lower() == self._key
        )

    def __call__(self, packet: bytes) -> Message | None:
        """The message, if it is the reply; one that is cut off counts as truncated."""
        if not self.admits(packet):
            return None
        try:
            return parse_message(packet)
        except FormError:
            ident, flags, *_ = HEADER.unpack_from(packet)
            rtype, rclass = _TAIL.unpack(self._tail)
            return Message(ident, flags | TC, packet[12 : self._end], rtype, rclass)


def _idents() -> Callable[[], int]:
    left: list[int] = []

    def draw() -> int:
        if not left:
            octets = os.urandom(2 * _IDENTS)
            left.extend(int.from_bytes(octets[at : at + 2], "big") for at in range(0, 2 * _IDENTS, 2))
        return left.pop()

    os.register_at_fork(after_in_child=left.clear)
    return draw


random_ident: Final = _idents()
"""A message id that nobody can guess, each from two octets of the system's generator that are used once."""


def failure(server: Address, error: OSError) -> ExchangeError:
    """What the system said of an exchange with a server."""
    return ExchangeError(f"{shown(server)}: {(error.strerror or str(error)).lower()}", ours=error.errno in _OURS)


def timed_out(server: Address) -> ExchangeError:
    """The server said nothing in time."""
    return ExchangeError(f"{shown(server)}: i/o timeout", silent=True)


def shown(server: Address) -> str:
    """`host:port`, an IPv6 host in brackets."""
    host, port = server
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
