"""A deadline that is nearly always put off before it comes, as the idle timeout of a connection is with every message.

A new timer for each message costs more than the message. Here a timer that is set for too early looks at the deadline
again and waits on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls a function at a moment that may be put off."""

    __slots__ = ("_call", "_loop", "_timer", "at")

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        """There is none before `set`."""
        self._loop, self._call = loop, call
        self._timer: asyncio.TimerHandle | None = None
        self.at = 0.0
        """On the loop's clock; may be set directly to a later moment."""

    def set(self, seconds: float) -> None:
        """Calls in so many seconds, and not at the moment that was set before."""
        self.at = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self.at:
            self._start()

    def cancel(self) -> None:
        """Does not call."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self) -> None:
        self.cancel()
        self._timer = self._loop.call_at(self.at, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._loop.time() < self.at:
            self._start()
        else:
            self._call()
