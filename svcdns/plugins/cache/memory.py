"""The memory of cache entries: what one takes, and how much all stores of a worker may take together.

Rules: a store takes at most so many octets for each entry of its capacity. All stores of a worker take at most the
worker's allowance, which depends on the container's memory limit. Over the allowance, the largest store evicts entries,
so that a flood of one kind does not evict entries of the others. An entry that is larger than LARGEST is not stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from svcdns.plugin_api.reply import Reply

PER_ENTRY: Final = 2048
"""Octets that a store may take for each entry of its capacity; ordinary entries take about 800."""
LARGEST: Final = 64 << 10
"""Octets of the largest entry that is stored."""
ENTRY: Final = 600
RECORD: Final = 160
DEPENDENCY: Final = 640
"""Octets that an entry, each of its records and each of its dependencies take besides their data.

A test measures them (CPython 3.11).
"""


def memory_of(name: bytes, content: Reply | bytes) -> int:
    """The octets that an entry takes, with its place in the store."""
    if isinstance(content, bytes):
        return ENTRY + len(name) + len(content)
    total = ENTRY + len(name) + DEPENDENCY * len(content.dependencies)
    for section in (content.answer, content.authority, content.additional):
        for record in section:
            total += RECORD + len(record.owner) + len(record.rdata)
    return total


class Evictable(Protocol):
    """A store, as the memory budget sees it."""

    octets: int

    def evict(self) -> None:
        """Evicts an entry."""
        ...


class MemoryBudget:
    """The memory of all cache stores of a worker."""

    def __init__(self, allowance: Callable[[], int]) -> None:
        """`allowance` returns the octets that all stores may take together."""
        self._allowance = allowance
        self.limit = allowance()
        self.stores: list[Evictable] = []
        self.octets = 0
        """The octets that all stores take."""

    def update_limit(self) -> None:
        """Reads the allowance again."""
        self.limit = self._allowance()

    def is_exceeded(self, more: int = 0) -> bool:
        """True if all stores, with so many octets more, take too much, and there is an entry to evict."""
        return self.octets + more > self.limit and self.octets > 0

    def evict(self) -> None:
        """Evicts an entry of the largest store."""
        max(self.stores, key=lambda store: store.octets).evict()
