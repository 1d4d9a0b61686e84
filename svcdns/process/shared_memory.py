"""The memory that all processes share: two regions for control, two for each worker slot.

The supervisor makes the mapping and passes its descriptor to the children. The mapping lives as long as the program, so
the counters of a process that died go on in the process that takes its region over. A region has one writer at a time:
a successor gets the region of the other side, as its predecessor still writes into its own. What follows the heartbeat
and the state in a region is described in `svcdns.telemetry.counters`. Standard library only: the supervisor imports it.
"""

from __future__ import annotations

import mmap
import os
from enum import IntEnum
from typing import Final

HANDOVER: Final = 2
"""The number in the hand-over format. It is raised where the version before would not understand the mapping, a message
on a channel, the state of a supervisor (`svcdns.supervisor.reexec`), or the data that a plugin's `gather` sends to
workers. An upgrade in place is then refused."""
REGION_SIZE: Final = 4 << 20
SLOTS: Final = 64
"""Worker slots in a mapping. A region takes memory only once it is written to."""
SIDES: Final = 2
"""Regions of control and of each worker slot: one for a process, one for its successor."""
REGIONS: Final = SIDES * (1 + SLOTS)


class State(IntEnum):
    """The state that a process shows."""

    STARTING = 0
    SYNCED = 1
    """A worker whose chains are built and whose index, if it has one, is synced."""
    UNSYNCED = 2
    """A worker whose chains are built and whose index is not synced."""
    SERVING = 3
    """A synced worker that reads its sockets."""
    SERVING_UNSYNCED = 4
    """A worker that reads its sockets and is not synced."""
    DRAINING = 5
    ENDED = 6
    """There is no process: it has ended, and none has taken over its region yet."""


def control_region(side: int) -> int:
    """The number of control's region of a side, 0 or 1."""
    return side * (1 + SLOTS)


def worker_region(slot: int, side: int) -> int:
    """The number of a worker's region of a side, 0 or 1."""
    return side * (1 + SLOTS) + 1 + slot


def other_side(region: int) -> int:
    """The region of the same process on the other side."""
    return (region + 1 + SLOTS) % REGIONS


def create() -> int:
    """The descriptor of a new mapping; every region is zero."""
    fd = memory_file("svcdns-counters")
    os.ftruncate(fd, REGIONS * REGION_SIZE)
    return fd


def memory_file(name: str) -> int:
    """The descriptor of an empty file in memory (memfd_create(2)), or of an unlinked temporary file where the system
    has no such files.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def regions(fd: int) -> list[memoryview]:
    """All regions of a mapping, by their numbers."""
    whole = memoryview(mmap.mmap(fd, REGIONS * REGION_SIZE))
    return [whole[n * REGION_SIZE : (n + 1) * REGION_SIZE] for n in range(REGIONS)]


def heartbeat(region: memoryview) -> float:
    """The time of the last heartbeat, seconds on CLOCK_MONOTONIC; 0 if there was none."""
    return region[0:8].cast("d")[0]


def reset(region: memoryview, now: State) -> None:
    """Discards the heartbeat and the state of the last process: another one starts in the region (STARTING), or none
    (ENDED).
    """
    region[0:16].cast("d")[0] = 0.0
    region[0:16].cast("d")[1] = float(now)


def state(region: memoryview) -> State:
    """The state that the region's process shows."""
    return State(int(region[8:16].cast("d")[0]))
