"""The memory that all processes share: two regions for control, two for each worker slot.

The supervisor makes the mapping and hands its file descriptor to the children. It lives as long as the program, so a process that died
leaves its numbers to the one that takes its region over. A region has one writer at a time: a process that is to replace another one,
which goes on meanwhile, gets the region of the other side. Standard library only: the supervisor imports it. What is in a region beyond
heartbeat and state is the business of `svcdns.telemetry.counters`.
"""

from __future__ import annotations

import mmap
import os
from enum import IntEnum
from typing import Final

HANDOVER: Final = 2
"""To be raised where the version before this one would not understand this mapping, a message on a channel, what a supervisor leaves to
its successor (`svcdns.supervisor.reexec`), or what a plugin's `gather` sends to workers: then an upgrade in place is refused."""
REGION_SIZE: Final = 4 << 20
SLOTS: Final = 64
"""Worker slots that a mapping has room for; a region takes memory only once it is written to."""
SIDES: Final = 2
"""Regions that control and each worker slot have, one for each of two processes that replace one another."""
REGIONS: Final = SIDES * (1 + SLOTS)


class State(IntEnum):
    """What a process says it is doing."""

    STARTING = 0
    SYNCED = 1
    """A worker whose chains are built and whose index is synced, or that has no index to wait for."""
    UNSYNCED = 2
    """A worker whose chains are built, still waiting for the cluster."""
    SERVING = 3
    """A synced worker that reads its sockets."""
    SERVING_UNSYNCED = 4
    """A worker that reads its sockets, still waiting for the cluster."""
    DRAINING = 5
    ENDED = 6
    """No process: it has ended, and none has taken its region over yet."""


def control_region(side: int) -> int:
    """The number of control's region of a side, 0 or 1."""
    return side * (1 + SLOTS)


def worker_region(slot: int, side: int) -> int:
    """The number of a worker's region of a side, 0 or 1."""
    return side * (1 + SLOTS) + 1 + slot


def other_side(region: int) -> int:
    """The region of the same place on the other side."""
    return (region + 1 + SLOTS) % REGIONS


def make() -> int:
    """A new mapping's file descriptor; every region is zero."""
    fd = memory("svcdns-counters")
    os.ftruncate(fd, REGIONS * REGION_SIZE)
    return fd


def memory(name: str) -> int:
    """The descriptor of an empty file in memory, or one without a name where the system has no such thing."""
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
    """When the region's process last beat, seconds on CLOCK_MONOTONIC; 0 if never."""
    return region[0:8].cast("d")[0]


def enter(region: memoryview, now: State) -> None:
    """A process is about to take the region over (STARTING) or has left it (ENDED): what the last one said of itself counts no more."""
    region[0:16].cast("d")[0] = 0.0
    region[0:16].cast("d")[1] = float(now)


def state(region: memoryview) -> State:
    """What the region's process last said it is doing."""
    return State(int(region[8:16].cast("d")[0]))
