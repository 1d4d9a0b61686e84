"""The turns of TCP and TLS connections whose queries wait because many have arrived.

The clients take turns (`FairQueue`): a client with many queries delays only its own replies. In each iteration of the
event loop, the turns take at most SLICE seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Final

from svcdns.eventloop.fair_queue import FairQueue

SLICE: Final = 0.0005
"""The seconds for turns in one iteration of the event loop."""
MAX_WAITING: Final = 1 << 16
"""The most connections that wait. It is more than a worker ever has."""


class Turns:
    """The connections of one worker whose queries wait for their client's turn."""

    def __init__(self) -> None:
        self._queue: FairQueue[Callable[[], None]] = FairQueue(MAX_WAITING)
        self.clients = self._queue.turns
        """Empty if no connection waits."""
        self._scheduled = False

    def add(self, client: bytes, work: Callable[[], None]) -> None:
        """Calls `work` when it is the turn of `client`. `work` answers some queries of one connection."""
        self._queue.add(client, work)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        queue, now = self._queue, perf_counter()
        ends = now + SLICE
        try:
            while self.clients and now < ends:
                queue.pop()()
                before, now = now, perf_counter()
                queue.charge(now - before)
        finally:
            if self.clients and not self._scheduled:
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self._run)
