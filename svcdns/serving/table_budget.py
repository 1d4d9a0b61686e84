"""The memory of a worker's answer tables, and how it is divided among the tables.

All tables together may take a share of the container's memory limit, or a fixed size if there is no limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

UNLIMITED: Final = 128 << 20
"""The octets for the tables of one worker if the container has no memory limit, and the most octets if it has one."""
SHARE: Final = 8
"""The tables of all workers together take at most one part in SHARE of the memory limit."""
WEIGHTS: Final = {"udp": 3, "tcp": 1}
"""The weights by which tables in use divide the worker's budget: most queries come over UDP."""
_IDLE: Final = 8
"""All idle tables together get at most one part in _IDLE of the budget."""


def table_budget(limit: int | None, workers: int) -> int:
    """Returns the octets for the answer tables of one worker.

    `limit` is the container's memory limit in octets, and `workers` is the number of workers.
    """
    return UNLIMITED if limit is None else min(UNLIMITED, limit // SHARE // workers)


def divide(budget: int, protocols: Sequence[str], used: Sequence[bool]) -> list[int]:
    """Returns the part of `budget` for each table. A table without entries gets only a small part.

    `protocols` has the protocol of each table. `used` is true for a table with entries.
    """
    idle = budget // _IDLE // max(1, len(protocols))
    weights = [WEIGHTS[protocol] if in_use else 0 for protocol, in_use in zip(protocols, used, strict=True)]
    rest, whole = budget - idle * weights.count(0), sum(weights)
    return [rest * weight // whole if weight else idle for weight in weights]
