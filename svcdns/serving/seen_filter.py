"""Remembers queries that came once: only a query that comes again gets an entry in the answer table.

The set is approximate, like a cuckoo filter with one octet for each key. The set may forget a key, and regards about
one in 127 new keys as known. These errors cost time, but never cause a wrong answer.
"""

from __future__ import annotations

from typing import Final

MAX_OCTETS: Final = 1 << 20
MIN_OCTETS: Final = 1 << 10
FIRST_OCTETS: Final = 1 << 18
"""The octets that the filter takes at first."""
GROWTH: Final = 4
"""The factor by which the filter grows when so many keys were added that they fill a quarter of it."""


class SeenFilter:
    """An approximate set of keys. The memory is allocated when the first key is added, and grows with the keys.

    When the filter grows, the octets are repeated, so that each key can still be found.
    """

    __slots__ = ("_added", "_fingerprints", "_limit", "_mask", "_second", "octets")

    def __init__(self, octets: int) -> None:
        """`octets` is the limit of the filter's memory. The filter takes at least MIN_OCTETS and at most MAX_OCTETS."""
        self.octets = 0
        """The memory in octets that the filter takes now."""
        self._fingerprints = bytearray()
        self._limit = _size(octets)
        self._mask = self._added = 0
        self._second = False

    def resize(self, octets: int) -> None:
        """Sets the limit of the filter's memory. If the filter takes more now, it forgets every key."""
        self._limit = _size(octets)
        if self.octets > self._limit:
            self._set(bytearray())

    def seen_before(self, key: bytes) -> bool:
        """Adds the key. Returns True if the key was in the filter before."""
        number = hash(key)
        mask = self._mask
        fingerprint = number & 255 or 1
        fingerprints = self._fingerprints
        if not fingerprints:
            self._set(bytearray(min(FIRST_OCTETS, self._limit)))
            return self.seen_before(key)
        first, second = number >> 8 & mask, number >> 28 & mask
        at_first = fingerprints[first]
        if at_first == fingerprint:
            return True
        at_second = fingerprints[second]
        if at_second == fingerprint:
            return True
        if not at_first:
            fingerprints[first] = fingerprint
        elif not at_second:
            fingerprints[second] = fingerprint
        else:
            self._second = not self._second
            fingerprints[second if self._second else first] = fingerprint
        self._added += 1
        if self._added << 2 > mask and self.octets < self._limit:
            self._set(fingerprints * min(GROWTH, self._limit // self.octets))
        return False

    def _set(self, fingerprints: bytearray) -> None:
        self._fingerprints, self.octets = fingerprints, len(fingerprints)
        self._mask, self._added = max(0, len(fingerprints) - 1), 0


def _size(octets: int) -> int:
    """Returns the largest power of two that is at most `octets`, between MIN_OCTETS and MAX_OCTETS."""
    return 1 << (min(MAX_OCTETS, max(MIN_OCTETS, octets)).bit_length() - 1)
