"""Finds the TTLs in an encoded message, and lowers them by the seconds that have passed.

The TTL field of an OPT record is not changed, because it holds flags (RFC 6891 §6.1.3).
"""

from __future__ import annotations

import struct
from typing import Final

from svcdns.wire.codes import Type
from svcdns.wire.request import HEADER

_FIXED: Final = struct.Struct("!HHIH")
_TTL: Final = struct.Struct("!I")


def ttl_offsets(message: bytes) -> tuple[int, ...]:
    """Returns the offset of the TTL field of each record except OPT.

    Call it only for messages that this program encoded: they are not checked.
    """
    _, _, questions, *counts = HEADER.unpack_from(message)
    at = 12
    for _ in range(questions):
        at = _behind_name(message, at) + 4
    offsets = []
    for _ in range(sum(counts)):
        at = _behind_name(message, at)
        rtype, _, _, length = _FIXED.unpack_from(message, at)
        if rtype != Type.OPT:
            offsets.append(at + 4)
        at += 10 + length
    return tuple(offsets)


def ttls(message: bytes) -> list[tuple[int, int]]:
    """Returns the type and the TTL of each record except OPT.

    Call it only for messages that this program encoded: they are not checked.
    """
    return [
        (int.from_bytes(message[at - 4 : at - 2], "big"), _TTL.unpack_from(message, at)[0])
        for at in ttl_offsets(message)
    ]


def aged(message: bytes, offsets: tuple[int, ...], seconds: int) -> bytes:
    """Returns a copy of the message with each TTL lowered by `seconds`, but not below 0.

    `offsets` has the offsets of the TTL fields from the first octet of the message.
    """
    out = bytearray(message)
    for at in offsets:
        (ttl,) = _TTL.unpack_from(out, at)
        _TTL.pack_into(out, at, max(0, ttl - seconds))
    return bytes(out)


def _behind_name(message: bytes, at: int) -> int:
    while length := message[at]:
        if length >= 0xC0:
            return at + 2
        at += 1 + length
    return at + 1
