"""The queries of one worker that wait for a reply: from the chain, or from an upstream on the fast path.

A worker that stops waits until none is left. Listeners, responders and the fast path share one object; it knows nothing
about them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable
from typing import Any


class InFlight:
    """Counts waiting queries, and keeps the tasks of those that need one alive."""

    __slots__ = ("_tasks", "_waiting", "add", "discard")

    def __init__(self) -> None:
        """No query waits."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: set[Hashable] = set()
        self.add = self._waiting.add
        """Notes a query that waits; the caller keeps no other reference to it."""
        self.discard = self._waiting.discard
        """The query waits no more."""

    def __len__(self) -> int:
        """How many queries wait."""
        return len(self._tasks) + len(self._waiting)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` as a task; its query counts until the task ends."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
