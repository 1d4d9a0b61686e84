"""SipHash-2-4 with a result of 64 bits (Aumasson and Bernstein, 2012), as RFC 9018 §4.4 requires it."""

from __future__ import annotations

import struct
from typing import Final

_MASK: Final = (1 << 64) - 1
_KEY: Final = struct.Struct("<QQ")
_WORD: Final = struct.Struct("<Q")


def siphash24(key: bytes, data: bytes) -> bytes:
    """Returns the hash of `data` as 8 octets in little-endian order. `key` has 16 octets."""
    k0, k1 = _KEY.unpack(key)
    v0, v1, v2, v3 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573
    padded = data + bytes(7 - len(data) % 8) + bytes((len(data) & 0xFF,))
    for (word,) in _WORD.iter_unpack(padded):
        v0, v1, v2, v3 = _round(*_round(v0, v1, v2, v3 ^ word))
        v0 ^= word
    v2 ^= 0xFF
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return _WORD.pack(v0 ^ v1 ^ v2 ^ v3)


def _round(v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    v0 = v0 + v1 & _MASK
    v1 = (v1 << 13 | v1 >> 51) & _MASK ^ v0
    v0 = (v0 << 32 | v0 >> 32) & _MASK
    v2 = v2 + v3 & _MASK
    v3 = (v3 << 16 | v3 >> 48) & _MASK ^ v2
    v0 = v0 + v3 & _MASK
    v3 = (v3 << 21 | v3 >> 43) & _MASK ^ v0
    v2 = v2 + v1 & _MASK
    v1 = (v1 << 17 | v1 >> 47) & _MASK ^ v2
    return v0, v1, (v2 << 32 | v2 >> 32) & _MASK, v3
