"""The shared memory of all processes: two regions (side 0 and side 1) for the control process, and for each worker
slot.

The supervisor makes the memory. Each region has one writer at a time: in a rolling replacement, the successor gets the
region of the other side. The counters of a process that ended continue in the next process of its region. A region
begins with heartbeat and state. `svcdns.telemetry.counters` describes the rest.
"""

from __future__ import annotations

import mmap
import os
from enum import IntEnum
from typing import Final

HANDOVER: Final = 2
"""The number in the hand-over format.

Increment it when an earlier version would not understand one of these any more: the mapping, a message on a channel,
the supervisor's state (`svcdns.supervisor.reexec`), or the data that a plugin's `gather` sends to workers. An upgrade
in place between different numbers is refused.
"""
REGION_SIZE: Final = 4 << 20
SLOTS: Final = 64
"""Worker slots in the mapping. A region takes memory only after it is written to."""
ENCRYPTED_SLOT: Final = SLOTS - 1
"""The slot of the worker for encrypted transports. The other slots are for the workers of `multisocket`."""
SIDES: Final = 2
"""Regions of control and of each worker slot: one for a process, the other for its successor."""
REGIONS: Final = SIDES * (1 + SLOTS)


class State(IntEnum):
    """The state that a process reports in its region of the shared memory."""

    STARTING = 0
    SYNCED = 1
    """A worker that has built its chains and whose index, if it has one, is synced."""
    UNSYNCED = 2
    """A worker that has built its chains and whose index is not synced."""
    SERVING = 3
    """A synced worker that reads queries from its sockets."""
    SERVING_UNSYNCED = 4
    """A worker that reads queries from its sockets and whose index is not synced."""
    DRAINING = 5
    ENDED = 6
    """No process uses the region: the last one has ended, and no other has started in it yet."""


def control_region(side: int) -> int:
    """Returns the region number of the control process on `side` (0 or 1).

    The control process and its successor have different sides.
    """
    return side * (1 + SLOTS)


def worker_region(slot: int, side: int) -> int:
    """Returns the region number of the worker with the number `slot`, on `side` (0 or 1).

    A worker and its successor have the same slot and different sides.
    """
    return side * (1 + SLOTS) + 1 + slot


def other_side(region: int) -> int:
    """Returns the number of the region that belongs to the successor or predecessor of the process in `region`."""
    return (region + 1 + SLOTS) % REGIONS


def create() -> int:
    """Makes the shared memory, with zeros in every region, and returns its descriptor."""
    fd = memory_file("svcdns-counters")
    os.ftruncate(fd, REGIONS * REGION_SIZE)
    return fd


def memory_file(name: str) -> int:
    """Makes an empty file in memory (memfd_create(2)), and returns its descriptor.

    On systems without such files, makes an unlinked temporary file.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def regions(fd: int) -> list[memoryview]:
    """Maps the shared memory, and returns all its regions in the order of their numbers."""
    whole = memoryview(mmap.mmap(fd, REGIONS * REGION_SIZE))
    return [whole[n * REGION_SIZE : (n + 1) * REGION_SIZE] for n in range(REGIONS)]


def heartbeat(region: memoryview) -> float:
    """Returns the time of the last heartbeat, in seconds on CLOCK_MONOTONIC, or 0 if there was none."""
    return region[0:8].cast("d")[0]


def reset(region: memoryview, now: State) -> None:
    """Clears the heartbeat and sets the state in a region of the shared memory.

    `now` is STARTING before a process starts in the region, and ENDED after its process has ended.
    """
    region[0:16].cast("d")[0] = 0.0
    region[0:16].cast("d")[1] = float(now)


def state(region: memoryview) -> State:
    """Returns the state that a process has reported in its region of the shared memory."""
    return State(int(region[8:16].cast("d")[0]))
