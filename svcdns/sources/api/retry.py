"""When a failed request to an API server is tried again. All watches of one server share this, so that together they
are one client.

It sends no request. Rules:

1. While requests fail, all watches together try one cheap request a second: a watch, or a page of one object.
2. The first success wakes the other watches, each for one try at once, so that recovery does not wait for the last one
   in the queue.
3. Expensive requests (full pages, lists without a watch after them) wait longer each time, each by a `Backoff` of its
   own.
4. Time is the monotonic clock that is passed in.
5. Each reason why the server cannot be reached is logged once, and so is its first answer, however many watches are
   affected.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator

from svcdns.eventloop.clock import Clock

PERIOD = 1.0
"""Seconds from one try to the next, at least; with jitter up to a quarter more."""
SOONEST = 0.3
"""Seconds from a failure to the next try, at least."""
LONGEST_DELAY = 30.0
REASONS = 8
"""Reasons that are logged of one outage at most."""

Sleep = Callable[[float], Awaitable[None]]
"""Waits that many seconds."""

Jitter = Callable[[], float]
"""A random number from 0 up to 1."""


class Backoff:
    """Delays of 0, 1, 2, 4, … 30 s, each shortened at random by up to a half so that clients of
    one server spread out.
    """

    def __init__(self, jitter: Jitter) -> None:
        self._jitter = jitter
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        delay = min(2.0 ** (self._failures - 1), LONGEST_DELAY) if self._failures else 0.0
        self._failures = min(self._failures + 1, 10)
        return delay * (1 - self._jitter() / 2)

    def reset(self) -> None:
        """Starts again without a delay."""
        self._failures = 0


class SharedRetry:
    """The retries of all watches of one API server: which one may try now, and whether the server can be reached."""

    def __init__(self, log: logging.Logger, sleep: Sleep, *, clock: Clock, jitter: Jitter) -> None:
        self._log, self._sleep, self._clock, self._jitter = log, sleep, clock, jitter
        self._logged: set[str] = set()
        self._queue = asyncio.Lock()
        self._next = clock()
        self._woken = asyncio.Event()
        self._long_granted = False

    @property
    def is_unreachable(self) -> bool:
        """Whether the last request got no answer."""
        return bool(self._logged)

    def unreachable(self, reason: str) -> None:
        """A request got no answer."""
        if reason not in self._logged and len(self._logged) < REASONS:
            self._logged.add(reason)
            self._log.warning(
                "cannot reach the Kubernetes API: %s; answering from the last known state and trying again", reason
            )

    def answered(self) -> None:
        """A request got an answer; a refusal is one too."""
        if self._logged:
            self._logged.clear()
            self._log.info("the Kubernetes API answers again")

    def recovered(self) -> None:
        """A failing watch has succeeded: all that wait for their next try make it at once."""
        self._woken.set()
        self._woken = asyncio.Event()

    async def next_try(self, soonest: float = SOONEST) -> None:
        """Waits until the caller may try again, and at least `soonest` seconds with jitter up to double."""
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
        """Waits that long, whatever happens to the other watches."""
        if seconds > 0:
            await self._sleep(seconds)

    @contextlib.contextmanager
    def long_timeout(self, failures: int) -> Iterator[bool]:
        """Whether this try has the long time limit, after `failures` tries without an answer in time.

        One try at a time has it: a slow server gets the time that it needs, and the other watches notice its recovery
        at once.
        """
        long = failures >= 3 and not self._long_granted
        self._long_granted = self._long_granted or long
        try:
            yield long
        finally:
            if long:
                self._long_granted = False
