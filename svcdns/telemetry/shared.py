"""The memory that all processes share: one region for control, one for each worker slot.

The supervisor makes the mapping and hands its file descriptor to the children. It lives as long as the program, so a process that died
leaves its numbers to the one that takes its slot over. Standard library only: the supervisor imports it. What is in a region beyond
heartbeat and state is the business of `svcdns.telemetry.counters`.
"""

from __future__ import annotations

import mmap
import os
from enum import IntEnum
from typing import Final

REGION_SIZE: Final = 4 << 20
SLOTS: Final = 64
"""Worker slots that a mapping has room for; a region takes memory only once it is written to."""
CONTROL: Final = 0
"""The region of the control process; that of worker slot `k` is `k + 1`."""


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


def make() -> int:
    """A new mapping's file descriptor; every region is zero."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("svcdns-counters", os.MFD_CLOEXEC)
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, (1 + SLOTS) * REGION_SIZE)
    return fd


def regions(fd: int) -> list[memoryview]:
    """All regions of a mapping, control's first."""
    whole = memoryview(mmap.mmap(fd, (1 + SLOTS) * REGION_SIZE))
    return [whole[n * REGION_SIZE : (n + 1) * REGION_SIZE] for n in range(1 + SLOTS)]


def heartbeat(region: memoryview) -> float:
    """When the region's process last beat, seconds on CLOCK_MONOTONIC; 0 if never."""
    return region[0:8].cast("d")[0]


def clear_heartbeat(region: memoryview) -> None:
    """Before a new process takes the slot: neither its predecessor's beat nor its state counts."""
    region[0:16].cast("d")[0] = 0.0
    region[0:16].cast("d")[1] = float(State.STARTING)


def state(region: memoryview) -> State:
    """What the region's process last said it is doing."""
    return State(int(region[8:16].cast("d")[0]))
