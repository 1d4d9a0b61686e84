"""Remembers queries that came once, so that a query that never comes again gets no entry in the answer table.

It is a small approximate set of keys, much like a cuckoo filter with one octet for each key. It may forget a key when
other keys are added, and it regards about one in 127 new keys as known. Both errors cost a little speed, but never
cause a wrong answer.
"""

from __future__ import annotations

from typing import Final

MAX_OCTETS: Final = 1 << 20
MIN_OCTETS: Final = 1 << 10


class SeenFilter:
    """A set of key fingerprints. Allocates its memory when the first key is added."""

    __slots__ = ("_fingerprints", "_mask", "_second", "octets")

    def __init__(self, octets: int) -> None:
        """`octets` is the most memory that the filter may take; it takes at least MIN_OCTETS and at most
        MAX_OCTETS.
        """
        self.octets = 0
        """The memory in octets that the filter takes now."""
        self._fingerprints = bytearray()
        self._mask = _size(octets) - 1
        self._second = False

    def resize(self, octets: int) -> None:
        """Sets the most octets of memory that the filter may take.

        If its size changes, the filter forgets every key.
        """
        if _size(octets) - 1 != self._mask:
            self._mask = _size(octets) - 1
            self._fingerprints = bytearray()
            self.octets = 0

    def seen_before(self, key: bytes) -> bool:
        """Returns True if the key was asked for before, and remembers the key."""
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
    """Returns the largest power of two that is at most `octets`, between MIN_OCTETS and MAX_OCTETS."""
    return 1 << (min(MAX_OCTETS, max(MIN_OCTETS, octets)).bit_length() - 1)
