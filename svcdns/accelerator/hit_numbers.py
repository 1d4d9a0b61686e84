"""Numbers the hit counters of entries, and reads the hits that the program in the kernel counts for each number."""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from operator import add
from typing import Final

from svcdns.accelerator.layout import COUNT_SIZE, HIT_COUNTERS, HITS_AT
from svcdns.serving.metrics import HitCounter

UNNUMBERED: Final = 0
"""The number in entries whose hit counter has no number of its own.

The hits of such an entry are the `uses` of its first slot.
"""


class HitNumbers:
    """Assigns numbers to the hit counters of entries in the memory."""

    def __init__(self, counts: mmap, cpus: int) -> None:
        """`counts` is the map `counts` of `layout`. `cpus` is the number of CPUs."""
        self._counts = counts
        self._numbers: dict[HitCounter, int] = {}
        self._known: list[tuple[HitCounter, int] | None] = [None] * HIT_COUNTERS
        """By number: the hit counter, and the number of its answer table."""
        self.entries = [0] * HIT_COUNTERS
        """The number of entries with each number."""
        self._free = list(range(HIT_COUNTERS - 1, UNNUMBERED, -1))
        self._idle: dict[int, float] = {}
        """Numbers without an entry, and the time of the last removal."""
        self._highest = UNNUMBERED
        self._counted = [b""] * cpus

    @property
    def free(self) -> int:
        """Returns how many numbers are free."""
        return len(self._free)

    def add_entry(self, hit_counter: HitCounter, table: int) -> int:
        """Returns the number of a hit counter for a new entry of an answer table.

        Returns UNNUMBERED if no number is free.
        """
        number = self._numbers.get(hit_counter)
        if number is None:
            if not self._free:
                self.entries[UNNUMBERED] += 1
                return UNNUMBERED
            number = self._free.pop()
            self._numbers[hit_counter] = number
            self._known[number] = hit_counter, table
            self._highest = max(self._highest, number)
        if not self.entries[number]:
            self._idle.pop(number, None)
        self.entries[number] += 1
        return number

    def remove_entries(self, number: int, entries: int, now: float) -> None:
        """Notes that entries with a number were removed at the time `now`."""
        left = self.entries[number] = self.entries[number] - entries
        if not left and number != UNNUMBERED:
            self._idle[number] = now

    def remove_all_entries(self, now: float) -> None:
        """Notes the removal of all entries at the time `now`."""
        for number, entries in enumerate(self.entries):
            if entries and number != UNNUMBERED:
                self._idle[number] = now
        self.entries = [0] * HIT_COUNTERS

    def take(self, rested: float) -> Iterator[tuple[HitCounter, int, int]]:
        """Yields each hit counter with hits since the last call, the number of its answer table, and these hits.

        Then frees the numbers whose last entry was removed before the time `rested`.
        """
        end = (self._highest + 1) * 8
        total: list[int] = []
        for cpu, before in enumerate(self._counted):
            at = cpu * COUNT_SIZE + HITS_AT
            octets = self._counts[at : at + end]
            if octets != before:
                self._counted[cpu] = octets
                earlier = before.ljust(len(octets), b"\0")
                pairs = zip(memoryview(octets).cast("Q"), memoryview(earlier).cast("Q"), strict=True)
                more = [now - then for now, then in pairs]
                total = list(map(add, total, more)) if total else more
        for number, hits in enumerate(total):
            known = self._known[number]
            if hits and known is not None:
                yield *known, hits
        for number in [number for number, since in self._idle.items() if since < rested]:
            del self._idle[number]
            known, self._known[number] = self._known[number], None
            if known is not None:
                del self._numbers[known[0]]
                self._free.append(number)
