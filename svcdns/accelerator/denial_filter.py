"""Writes the fields from which the program in the kernel sees that no denial can exist for most names.

The program looks for denials only for the remaining names, because a look-up costs time.
"""

from __future__ import annotations

from array import array
from typing import Final

from svcdns.accelerator.layout import (
    CASE,
    DENIAL_DEPTHS,
    DENIAL_ENDS,
    DENIAL_ENDS_AT,
    DENIAL_LABELS,
    DENIAL_LABELS_AT,
    label_bit,
)

_ENDS: Final = DENIAL_ENDS_AT // 8
_LABELS: Final = DENIAL_LABELS_AT // 8
_DEPTHS: Final = DENIAL_DEPTHS // 4
_NONE: Final = bytes(64 * DENIAL_LABELS * 2)


class DenialFilter:
    """Writes the fields of `state` that belong to denials (see `layout`)."""

    def __init__(self, words: memoryview, halves: memoryview) -> None:
        """`words` is the map `state` in words of 64 bits, and `halves` in words of 32 bits."""
        self._words, self._halves = words, halves
        self._denials = array("H", _NONE)
        """The number of denials with each bit of `label_bit`."""

    def add(self, key: bytes, name_end: bytes, depth: int) -> bool:
        """Lets the program find the denial with this key. Returns False if there is no room.

        `name_end` has the last 8 octets of the names. `depth` is the number of the nonexistent label, counted from the
        end of the name.
        """
        end = int.from_bytes(name_end, "little") | CASE
        ends = self._words[_ENDS : _ENDS + DENIAL_ENDS].tolist()
        if end not in ends:
            if 0 not in ends:
                return False
            self._words[_ENDS + ends.index(0)] = end
        bit = label_bit(key)
        self._denials[bit] += 1
        self._words[_LABELS + bit // 64] |= 1 << bit % 64
        self._halves[_DEPTHS] |= 1 << depth
        return True

    def remove(self, key: bytes) -> None:
        """Ends the look-ups for the denial with this key."""
        bit = label_bit(key)
        self._denials[bit] -= 1
        if not self._denials[bit]:
            self._words[_LABELS + bit // 64] &= ~(1 << bit % 64)

    def clear(self) -> None:
        """Ends the look-ups for all denials."""
        self._halves[_DEPTHS] = 0
        self._denials = array("H", _NONE)
        self._words[_ENDS : _ENDS + DENIAL_ENDS] = memoryview(bytes(8 * DENIAL_ENDS)).cast("Q")
        self._words[_LABELS : _LABELS + DENIAL_LABELS] = memoryview(bytes(8 * DENIAL_LABELS)).cast("Q")
