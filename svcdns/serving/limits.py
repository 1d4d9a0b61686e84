"""How much memory the answer tables of a worker may take: a share of what the container may have, or a fixed sum without a limit."""

from __future__ import annotations

from pathlib import Path
from typing import Final

UNLIMITED: Final = 128 << 20
"""Octets for one worker's tables where nothing limits the memory, and at most where something does."""
SHARE: Final = 8
"""The tables of all workers together take at most this part of the limit."""
CGROUP: Final = Path("/sys/fs/cgroup")
_FILES: Final = ("memory.max", "memory/memory.limit_in_bytes")


def memory_limit(cgroup: Path = CGROUP) -> int | None:
    """The memory limit of this process's control group in octets (version 2, else version 1), None where there is none."""
    for name in _FILES:
        try:
            text = (cgroup / name).read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdecimal() and int(text) < 1 << 60 else None
    return None


def table_budget(limit: int | None, workers: int) -> int:
    """Octets for the tables of each of so many workers under a memory limit in octets."""
    return UNLIMITED if limit is None else min(UNLIMITED, limit // SHARE // workers)
