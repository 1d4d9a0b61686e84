"""How long one piece of work may hold up the event loop, for work that is done in pieces.

Everything that may take long looks at a `TimeSlice` between its pieces: once the slice is over, other work runs before
the next piece.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Final

SLICE: Final = 0.0002
"""Seconds that a slice has where nothing else is said."""


class TimeSlice:
    """A slice of time, which begins when the object is made."""

    __slots__ = ("_ends", "_seconds")

    def __init__(self, seconds: float = SLICE) -> None:
        """The slice is over after so many seconds."""
        self._seconds = seconds
        self._ends = perf_counter() + seconds

    @property
    def is_over(self) -> bool:
        """Whether other work should run now."""
        return perf_counter() > self._ends

    def restart(self) -> None:
        """A new slice begins."""
        self._ends = perf_counter() + self._seconds

    async def pause(self) -> None:
        """Lets the event loop run once if the slice is over, and begins a new one."""
        if perf_counter() > self._ends:
            await asyncio.sleep(0)
            self._ends = perf_counter() + self._seconds
