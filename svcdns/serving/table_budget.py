"""How much memory the answer tables of a worker may take, and how much of it each table gets.

All tables together get a share of the container's memory limit, or a fixed size without one. Caches may take as much
again (`Environment.allowance`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

UNLIMITED: Final = 128 << 20
"""Octets for one worker's tables where nothing limits the memory, and at most where something does."""
SHARE: Final = 8
"""The tables of all workers together take at most this part of the limit."""
WEIGHTS: Final = {"udp": 3, "tcp": 1}
"""How the tables in use divide a worker's budget: most queries come over UDP."""
_IDLE: Final = 8
"""All idle tables together get this part of the budget."""


def table_budget(limit: int | None, workers: int) -> int:
    """Octets for the tables of each of so many workers under a memory limit in octets."""
    return UNLIMITED if limit is None else min(UNLIMITED, limit // SHARE // workers)


def divide(budget: int, protocols: Sequence[str], used: Sequence[bool]) -> list[int]:
    """The octets of each table, from the protocol that it is for, and from whether it has entries."""
    idle = budget // _IDLE // max(1, len(protocols))
    weights = [WEIGHTS[protocol] if in_use else 0 for protocol, in_use in zip(protocols, used, strict=True)]
    rest, whole = budget - idle * weights.count(0), sum(weights)
    return [rest * weight // whole if weight else idle for weight in weights]
