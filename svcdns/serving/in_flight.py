"""The queries of one worker that wait for the plugin chain, or for an upstream on the fast path.

Listeners, responders and the fast path of a worker share one `InFlight` object. A worker stops only when no query
waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable
from typing import Any


class InFlight:
    """Counts the waiting queries, and keeps references to the tasks that handle them."""

    __slots__ = ("_tasks", "_waiting", "add", "discard")

    def __init__(self) -> None:
        """Starts without any waiting query."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: set[Hashable] = set()
        self.add = self._waiting.add
        """Adds a waiting query, and keeps a reference to it until `discard`."""
        self.discard = self._waiting.discard
        """Removes a query that no longer waits."""

    def __len__(self) -> int:
        """Returns the number of waiting queries."""
        return len(self._tasks) + len(self._waiting)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` as a task. Counts it as a waiting query until the task ends."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
