"""TTLs that count down inside a finished message: where they stand, and the message some seconds later (RFC 1035 §3.2.1, RFC 2181 §8).

The OPT record's TTL field holds flags (RFC 6891 §6.1.3) and is left alone. Decides nothing about when.
"""

from __future__ import annotations

import struct
from typing import Final

from svcdns.wire.codes import Type
from svcdns.wire.request import HEADER

_FIXED: Final = struct.Struct("!HHIH")
_TTL: Final = struct.Struct("!I")


def ttl_offsets(message: bytes) -> tuple[int, ...]:
    """Offsets of the TTL of every record of a message that we made ourselves, the OPT left out."""
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


def aged(message: bytes, offsets: tuple[int, ...], seconds: int) -> bytes:
    """The message with its TTLs less by `seconds`, not below 0. Offsets count from its first octet."""
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
