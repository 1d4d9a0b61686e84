"""Limits how long one piece of work may block the event loop.

Code that may take long checks a `TimeSlice` between its pieces of work. When the slice is over, other work runs before
the next piece.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Final

SLICE: Final = 0.0002
"""The default length of a slice, in seconds."""


class TimeSlice:
    """The number of seconds, from the creation of this object, for which work may block the event loop."""

    __slots__ = ("_ends", "_seconds")

    def __init__(self, seconds: float = SLICE) -> None:
        """`seconds` is the length of the slice."""
        self._seconds = seconds
        self._ends = perf_counter() + seconds

    @property
    def is_over(self) -> bool:
        """Returns True if the slice is over, so that other work should run."""
        return perf_counter() > self._ends

    def restart(self) -> None:
        """Begins a new slice."""
        self._ends = perf_counter() + self._seconds

    async def pause(self) -> None:
        """Lets the event loop run once if the slice is over, and then begins a new slice."""
        if perf_counter() > self._ends:
            await asyncio.sleep(0)
            self._ends = perf_counter() + self._seconds
