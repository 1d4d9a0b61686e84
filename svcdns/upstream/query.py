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
from svcdns.wire.record import Edns
from svcdns.wire.request import HEADER

Address = tuple[str, int]
MAX_DATAGRAM: Final = 65535
_IDENTS: Final = 512
"""Ids that are taken from the system's generator at a time."""
_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN})
"""Errors that mean a lack of something here: descriptors, memory, ports."""


class ExchangeError(SvcdnsError):
    """The server gave no reply that counts; the text says why, as a log line ends.

    `silent` means that nothing came at all, `ours` that the reason lies with this machine and says nothing of the server.
    """

    def __init__(self, text: str, *, silent: bool = False, ours: bool = False) -> None:
        super().__init__(text)
        self.silent, self.ours = silent, ours


class Question(msgspec.Struct):
    """What is asked of a server; `flags` are the header bits RD, AD and CD. `wire` is the packet behind its id, made once."""

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
    def end(self) -> int:
        """Where the question section ends, in the packet and in its reply."""
        return 16 + len(self.name)

    def packet(self, ident: int) -> bytes:
        """The question with that id."""
        return ident.to_bytes(2, "big") + self.wire

    def admits(self, ident: int, packet: bytes) -> bool:
        """Whether that is the reply: one with this id, name, type and class; the case of letters does not matter (RFC 5452 §9)."""
        end = 16 + len(self.name)
        return (
            packet[:2] == ident.to_bytes(2, "big")
            and packet[2:3] >= b"\x80"
            and packet[4:6] == b"\0\1"
            and (packet[12:end] == self.wire[10 : end - 2] or self._is_spelled_otherwise(packet))
        )

    def _is_spelled_otherwise(self, packet: bytes) -> bool:
        end = 12 + len(self.name)
        return packet[12:end].lower() == self.name.lower() and packet[end : end + 4] == self.wire[end - 2 : end + 2]

    def opened(self, packet: bytes) -> Message:
        """The reply as a message; one that is cut off counts as truncated."""
        try:
            return parse_message(packet)
        except FormError:
            ident, flags, *_ = HEADER.unpack_from(packet)
            return Message(ident, flags | TC, packet[12 : 12 + len(self.name)], self.rtype, self.rclass)


def _idents() -> Callable[[], int]:
    left: list[int] = []

    def draw() -> int:
        if not left:
            left.extend(struct.unpack(f"{_IDENTS}H", os.urandom(2 * _IDENTS)))
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
