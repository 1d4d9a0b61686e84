"""The shared memory of the samples of queries (plugin *traffic*): a ring for each region of the counters.

In the shared memory, the rings come after the page of cookie secrets. A ring takes memory only after it is written to.
`svcdns.telemetry.query_samples` has the format of a ring.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import Final

from svcdns.process import cookie_secrets
from svcdns.process.shared_memory import REGION_SIZE, REGIONS, SIDES, SLOTS, worker_region

RING_SIZE: Final = 1 << 19
"""The octets of one ring. At most half a MiB of memory for each worker that samples queries."""
_IN_USE: Final = slice(16, 24)
"""The octets of a region that are not all zero after a process has counted anything in the region."""
_WORKERS: Final = [worker_region(slot, side) for slot in range(SLOTS) for side in range(SIDES)]
_OFFSET: Final = REGIONS * REGION_SIZE + cookie_secrets.PAGE
_END: Final = _OFFSET + REGIONS * RING_SIZE


def add(fd: int) -> None:
    """Adds the rings to the shared memory `fd`. An earlier version of svcdns makes the memory without rings."""
    if os.fstat(fd).st_size < _END:
        os.ftruncate(fd, _END)


def ring(fd: int, region: int) -> memoryview:
    """Returns the ring of a region of the shared memory `fd`.

    If an earlier version of svcdns made the memory without rings, returns private memory.
    """
    if os.fstat(fd).st_size < _END:
        return private_ring()
    return memoryview(mmap.mmap(fd, RING_SIZE, offset=_OFFSET + region * RING_SIZE))


class WorkerRings:
    """The rings of all workers. The memory is mapped at the first call."""

    def __init__(self, fd: int, regions: Sequence[memoryview]) -> None:
        """`regions` are all regions of the shared memory `fd`."""
        self._fd, self._regions = fd, regions
        self._whole: memoryview | None = None

    def __call__(self) -> list[memoryview]:
        """Returns the rings of all workers that have run, with those of workers that have ended."""
        if os.fstat(self._fd).st_size < _END:
            return []
        if self._whole is None:
            self._whole = memoryview(mmap.mmap(self._fd, REGIONS * RING_SIZE, offset=_OFFSET))
        return [
            self._whole[number * RING_SIZE : (number + 1) * RING_SIZE]
            for number in _WORKERS
            if any(self._regions[number][_IN_USE])
        ]


def private_ring() -> memoryview:
    """Returns a ring that no other process reads."""
    return memoryview(bytearray(RING_SIZE))
