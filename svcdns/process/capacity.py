"""How many workers this machine, or this container, can run.

With many more workers than processors, the control process would not get enough time for its heartbeat.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from svcdns.process.memory_cgroup import OWN, ROOT, MemoryGroup, groups
from svcdns.process.shared_memory import ENCRYPTED_SLOT

PER_PROCESSOR: Final = 4
"""The most workers for each processor."""
MIB: Final = 1 << 20
BASE: Final = 48 * MIB
"""The memory of the supervisor and of control, in octets, with a small cluster."""
WORKER: Final = 24 * MIB
"""The memory of a worker, in octets, with a small cluster."""


def processors(root: Path = ROOT, own: Path = OWN) -> int:
    """Returns the number of processors that this process may use, at least 1.

    The CPU affinity and the CPU limits of control groups are considered. A limit of 2.5 processors counts as 2. `root`
    is where control groups are mounted. `own` is the file that names this process's groups.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    version, found = groups(root, own, "cpu")
    limits = [limit for group in found if (limit := _limit(group, version)) is not None]
    return max(1, int(min([count, *limits])))


def most_workers(available: int, memory: int | None) -> tuple[int, str]:
    """Returns the largest number of workers, at least 1, and the reason in words.

    `available` is the number of processors. `memory` is the memory limit in octets, or None.
    """
    by_processors = PER_PROCESSOR * available
    reasons = [
        (ENCRYPTED_SLOT, f"{ENCRYPTED_SLOT} is the most"),
        (by_processors, f"{PER_PROCESSOR} for each processor, and there are {available}"),
    ]
    if memory is not None:
        by_memory = max(1, (memory - BASE) // WORKER)
        reasons.append((by_memory, f"the memory limit of {memory // MIB} MiB has no room for more"))
    return min(reasons)


def capacity() -> tuple[int, str]:
    """Returns the largest number of workers for this machine or container, and the reason in words."""
    return most_workers(processors(), MemoryGroup().limit())


def _limit(group: Path, version: int) -> float | None:
    """Returns the CPU limit of one control group in processors, or None if there is none."""
    try:
        if version == 1:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        else:
            quota, period = (group / "cpu.max").read_text().split()
        limit = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # `max`, or -1 below, is no limit
        return None
    return limit if limit > 0 else None
