"""A deadline that is usually moved before it is reached, such as the idle timeout of a connection.

There is one timer for many moves. When the timer fires before the moved deadline, it is started again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls a function at a deadline. Moving the deadline to a later time costs nearly nothing."""

    __slots__ = ("_call", "_loop", "_timer", "at")

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        """`call` is the function to call at the deadline. No deadline is set yet."""
        self._loop, self._call = loop, call
        self._timer: asyncio.TimerHandle | None = None
        self.at = 0.0
        """The deadline on the loop's clock; callers may set it directly to a later time."""

    def set(self, seconds: float) -> None:
        """Sets the deadline to `seconds` from now, in place of the previous one."""
        self.at = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self.at:
            self._start()

    def start(self) -> None:
        """Starts the timer for the deadline that the caller has set in `at`, unless a timer runs."""
        if self._timer is None:
            self._start()

    def cancel(self) -> None:
        """Cancels the deadline: the function is not called."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """Cancels the deadline for ever, and releases the function, which may refer to the owner of this object."""
        self.cancel()
        self._call = _do_nothing

    def _start(self) -> None:
        self.cancel()
        self._timer = self._loop.call_at(self.at, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._loop.time() < self.at:
            self._start()
        else:
            self._call()


def _do_nothing() -> None:
    pass
