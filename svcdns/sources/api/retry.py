"""Decides when a failed request to an API server is tried again. No request is sent here.

Rules:

1. While requests fail, all watches of a server together try one cheap request a second: a watch, or a page of one
   object.
2. The first success wakes the other watches.
3. Expensive requests wait longer after each failure, by a separate `Backoff`. These are full pages, and lists after
   which no watch worked.
4. Each reason why the server cannot be reached is logged once, and so is its first response afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator

from svcdns.eventloop.clock import Clock
from svcdns.log_line import LogLine

PERIOD = 1.0
"""Minimum seconds between two tries; jitter adds up to a quarter."""
SOONEST = 0.3
"""Minimum seconds between a failure and the next try."""
LONGEST_DELAY = 30.0
REASONS = 8
"""The most reasons that are logged for one outage."""

Sleep = Callable[[float], Awaitable[None]]
"""Waits for a number of seconds."""

Jitter = Callable[[], float]
"""Returns a random number from 0 up to 1."""


class Backoff:
    """Computes delays of 0, 1, 2, 4, … 30 s.

    A random part of up to a half is subtracted from each delay.
    """

    def __init__(self, jitter: Jitter) -> None:
        self._jitter = jitter
        self._failures = 0

    def next(self) -> float:
        """Returns the seconds to wait after another failure."""
        delay = min(2.0 ** (self._failures - 1), LONGEST_DELAY) if self._failures else 0.0
        self._failures = min(self._failures + 1, 10)
        return delay * (1 - self._jitter() / 2)

    def reset(self) -> None:
        """Resets the delay to 0."""
        self._failures = 0


class SharedRetry:
    """Coordinates the retries of all watches of one API server, and records whether the server can be reached."""

    def __init__(self, log: logging.Logger, sleep: Sleep, *, clock: Clock, jitter: Jitter) -> None:
        self._log, self._sleep, self._clock, self._jitter = log, sleep, clock, jitter
        self._logged: set[str] = set()
        self._queue = asyncio.Lock()
        self._next = clock()
        self._woken = asyncio.Event()
        self._long_granted = False

    @property
    def is_unreachable(self) -> bool:
        """Returns True if the last request got no response."""
        return bool(self._logged)

    def unreachable(self, reason: str, *, known: bool) -> None:
        """Records that a request got no response, and logs the reason once.

        `known` states whether the cluster's objects are known from earlier lists or from a snapshot.
        """
        if reason not in self._logged and len(self._logged) < REASONS:
            self._logged.add(reason)
            answers = "last-known-state" if known else "servfail"
            self._log.warning(LogLine("cannot reach the Kubernetes API: trying again", error=reason, answers=answers))

    def answered(self) -> None:
        """Records that a request got a response, even if it has an error status."""
        if self._logged:
            self._logged.clear()
            self._log.info("the Kubernetes API answers again")

    def recovered(self) -> None:
        """Wakes all watches that wait for their next try. Call it when a watch has succeeded after failures."""
        self._woken.set()
        self._woken = asyncio.Event()

    async def next_try(self, soonest: float = SOONEST) -> None:
        """Waits until the caller may try again, at least `soonest` seconds. A random time of up to `soonest` is added.

        A call of `recovered` ends the wait.
        """
        waits = [asyncio.ensure_future(self._next_try(soonest)), asyncio.ensure_future(self._woken.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _next_try(self, soonest: float) -> None:
        async with self._queue:
            now = self._clock()
            await self.pause(max(self._next - now, soonest * (1 + self._jitter())))
            self._next = self._clock() + PERIOD * (1 + self._jitter() / 4)

    async def pause(self, seconds: float) -> None:
        """Waits for `seconds`. The success of another watch does not end the wait."""
        if seconds > 0:
            await self._sleep(seconds)

    @contextlib.contextmanager
    def long_timeout(self, failures: int) -> Iterator[bool]:
        """Context manager for one try of a request. Yields True if the try has the long time limit.

        `failures` is the number of tries without a response in time. Only one try at a time has the long limit, so that
        other watches notice the recovery of the server.
        """
        long = failures >= 3 and not self._long_granted
        self._long_granted = self._long_granted or long
        try:
            yield long
        finally:
            if long:
                self._long_granted = False
