"""How much memory the answer tables of a worker may take: a share of what the container may have, or a fixed sum without a limit.

Caches may take as much again (`Environment.allowance`)."""

from __future__ import annotations

from typing import Final

UNLIMITED: Final = 128 << 20
"""Octets for one worker's tables where nothing limits the memory, and at most where something does."""
SHARE: Final = 8
"""The tables of all workers together take at most this part of the limit."""


def table_budget(limit: int | None, workers: int) -> int:
    """Octets for the tables of each of so many workers under a memory limit in octets."""
    return UNLIMITED if limit is None else min(UNLIMITED, limit // SHARE // workers)
