"""The memory of cache entries: the size of one entry, and the limit for all stores of a worker together.

Rules: a store takes at most PER_ENTRY octets for each entry of its capacity. If all stores together exceed the limit of
the worker, the largest store evicts entries. An entry larger than LARGEST octets is not stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from svcdns.plugin_api.reply import Reply

PER_ENTRY: Final = 2048
"""Octets that a store may take for each entry of its capacity. An ordinary entry takes about 800 octets."""
LARGEST: Final = 64 << 10
"""The largest size of an entry that is stored, in octets."""
ENTRY: Final = 600
RECORD: Final = 160
DEPENDENCY: Final = 640
"""ENTRY, RECORD and DEPENDENCY: octets that an entry, each record and each dependency take besides their data.

A test measures these three numbers (CPython 3.11).
"""


def memory_of(name: bytes, content: Reply | bytes) -> int:
    """Returns the octets that an entry takes, including the store's overhead for it."""
    if isinstance(content, bytes):
        return ENTRY + len(name) + len(content)
    total = ENTRY + len(name) + DEPENDENCY * len(content.dependencies)
    for section in (content.answer, content.authority, content.additional):
        for record in section:
            total += RECORD + len(record.owner) + len(record.rdata)
    return total


class Evictable(Protocol):
    """The method of a store that the memory budget calls."""

    octets: int

    def evict(self) -> None:
        """Removes one entry to free memory."""
        ...


class MemoryBudget:
    """Limits the memory that all cache stores of a worker take together."""

    def __init__(self, allowance: Callable[[], int]) -> None:
        """`allowance` returns the octets that all stores together may take."""
        self._allowance = allowance
        self.limit = allowance()
        self.stores: list[Evictable] = []
        self.octets = 0
        """The octets that all stores together take."""

    def update_limit(self) -> None:
        """Sets the limit to the present result of `allowance` (see the constructor)."""
        self.limit = self._allowance()

    def is_exceeded(self, more: int = 0) -> bool:
        """Returns True if `more` additional octets would exceed the limit of all stores, and a store has an entry to
        evict.
        """
        return self.octets + more > self.limit and self.octets > 0

    def evict(self) -> None:
        """Finds the store that takes the most memory, and evicts one of its entries."""
        max(self.stores, key=lambda store: store.octets).evict()
