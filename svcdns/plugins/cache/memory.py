"""What entries of the cache take in memory, and how much all stores of a worker may take together.

Rules: a store keeps to so many octets for each entry that it may have, and all stores of a worker to the worker's allowance, which depends
on the container's memory limit; where that is met the largest store makes room, so that a flood of one kind does not cost the others
theirs. An entry that is large by itself is not kept at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from svcdns.plugin_api.reply import Reply

PER_ENTRY: Final = 2048
"""Octets that a store may take for each entry of its capacity: ordinary entries take some 800."""
LARGEST: Final = 64 << 10
"""Octets of the largest entry that is kept."""
ENTRY: Final = 600
RECORD: Final = 160
OWNER: Final = 640
"""What an entry, each of its records and each fact that it rests on take besides their octets (CPython 3.11, measured by a test)."""


def octets(name: bytes, reply: Reply | bytes) -> int:
    """What an entry takes, its place in the store included."""
    if isinstance(reply, bytes):
        return ENTRY + len(name) + len(reply)
    total = ENTRY + len(name) + OWNER * len(reply.dependencies)
    for section in (reply.answer, reply.authority, reply.additional):
        for record in section:
            total += RECORD + len(record.owner) + len(record.rdata)
    return total


class Sized(Protocol):
    """A store as the pool sees it."""

    octets: int

    def evict(self) -> None:
        """Gives up an entry."""
        ...


class Pool:
    """The memory of all stores of a worker."""

    def __init__(self, allowance: Callable[[], int]) -> None:
        """`allowance` gives the octets that all of them may take."""
        self._allowance = allowance
        self.limit = allowance()
        self.stores: list[Sized] = []
        self.octets = 0
        """What all of them take."""

    def look(self) -> None:
        """Takes note of a changed allowance."""
        self.limit = self._allowance()

    def is_over(self, more: int = 0) -> bool:
        """Whether all stores with so many octets more are too large, and there is something to give up."""
        return self.octets + more > self.limit and self.octets > 0

    def evict(self) -> None:
        """Has the largest store give up an entry."""
        max(self.stores, key=lambda store: store.octets).evict()
