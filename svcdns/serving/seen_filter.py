"""The seen filter: which keys were asked for before, so that a name asked for once takes no place in the answer table.

A small approximate set, much like a cuckoo filter with one octet for each key. A key may be forgotten when others come,
and about one new key in 127 is taken for one seen before. Both cost a little speed, never a wrong answer.
"""

from __future__ import annotations

from typing import Final

MAX_OCTETS: Final = 1 << 20
MIN_OCTETS: Final = 1 << 10


class SeenFilter:
    """Fingerprints of keys, each in one of two places. The memory is taken when the first key comes."""

    __slots__ = ("_fingerprints", "_mask", "_second", "octets")

    def __init__(self, octets: int) -> None:
        """Takes at most `octets`, within MIN_OCTETS and MAX_OCTETS."""
        self.octets = 0
        """Octets that the filter takes now."""
        self._fingerprints = bytearray()
        self._mask = _size(octets) - 1
        self._second = False

    def resize(self, octets: int) -> None:
        """Takes at most `octets` from now on. A change of size forgets every key."""
        if _size(octets) - 1 != self._mask:
            self._mask = _size(octets) - 1
            self._fingerprints = bytearray()
            self.octets = 0

    def seen_before(self, key: bytes) -> bool:
        """Whether the key was asked for before; from now on it was."""
        number = hash(key)
        mask = self._mask
        fingerprint, first, second = number % 255 + 1, (number >> 8) & mask, (number >> 28) & mask
        fingerprints = self._fingerprints or self._begin()
        if fingerprint in (fingerprints[first], fingerprints[second]):
            return True
        self._second = not self._second
        fingerprints[first if not fingerprints[first] or (fingerprints[second] and self._second) else second] = (
            fingerprint
        )
        return False

    def _begin(self) -> bytearray:
        self.octets = self._mask + 1
        self._fingerprints = bytearray(self.octets)
        return self._fingerprints


def _size(octets: int) -> int:
    """The largest power of two that is allowed."""
    return 1 << (min(MAX_OCTETS, max(MIN_OCTETS, octets)).bit_length() - 1)
