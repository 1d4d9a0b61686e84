"""When to try again, and what to say about it. All watches of one API server share it, so that they are one polite client together.

Rules:
1. While anything is in trouble, one cheap request a second is tried by all of them together, in turn: a watch, or a page of one object.
2. The first that gets through wakes the others, each for one try at once; so recovery does not wait for the last in the queue.
3. What is dear (full pages, lists that turn out to be for nothing) waits longer each time, by a `Backoff` of its own.
4. Time is the monotonic clock that is passed in.
5. Why the server cannot be reached is said once for each reason, and that it answers again once, however many watches it hits.
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
"""That are said of one outage at most."""

Sleep = Callable[[float], Awaitable[None]]
"""Waits that many seconds."""

Jitter = Callable[[], float]
"""A random number from 0 up to 1."""


class Backoff:
    """Delays of 0, 1, 2, 4, … 30 s, each shortened at random by up to a half so that clients of one server spread out."""

    def __init__(self, jitter: Jitter) -> None:
        self._jitter = jitter
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        delay = min(2.0 ** (self._failures - 1), LONGEST_DELAY) if self._failures else 0.0
        self._failures = min(self._failures + 1, 10)
        return delay * (1 - self._jitter() / 2)

    def reset(self) -> None:
        """Start from no delay again."""
        self._failures = 0


class Outage:
    """The trouble with one API server: whose turn it is to try, and whether the server can be reached at all."""

    def __init__(self, log: logging.Logger, sleep: Sleep, *, clock: Clock, jitter: Jitter) -> None:
        self._log, self._sleep, self._clock, self._jitter = log, sleep, clock, jitter
        self._said: set[str] = set()
        self._queue = asyncio.Lock()
        self._next = clock()
        self._woken = asyncio.Event()
        self._patient = False

    @property
    def is_unreachable(self) -> bool:
        """Whether the last request got no answer."""
        return bool(self._said)

    def unreachable(self, reason: str) -> None:
        """A request got no answer."""
        if reason not in self._said and len(self._said) < REASONS:
            self._said.add(reason)
            self._log.warning("cannot reach the Kubernetes API: %s; answering from the last known state and trying again", reason)

    def answered(self) -> None:
        """A request got an answer, be it a refusal."""
        if self._said:
            self._said.clear()
            self._log.info("the Kubernetes API answers again")

    def over(self) -> None:
        """One that was in trouble got through: whoever waits for a turn tries at once."""
        self._woken.set()
        self._woken = asyncio.Event()

    async def turn(self, soonest: float = SOONEST) -> None:
        """Waits until it is the caller's turn to try, and `soonest` seconds with jitter up to double."""
        waits = [asyncio.ensure_future(self._turn(soonest)), asyncio.ensure_future(self._woken.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _turn(self, soonest: float) -> None:
        async with self._queue:
            now = self._clock()
            await self.pause(max(self._next - now, soonest * (1 + self._jitter())))
            self._next = self._clock() + PERIOD * (1 + self._jitter() / 4)

    async def pause(self, seconds: float) -> None:
        """Waits that long, whatever happens to others."""
        if seconds > 0:
            await self._sleep(seconds)

    @contextlib.contextmanager
    def patience(self, failures: int) -> Iterator[bool]:
        """Whether this try may wait long for its answer, after so many that got none in time.

        One at a time may, so that a server that needs long is not given up each time, and the others notice at once when it is well.
        """
        patient = failures >= 3 and not self._patient
        self._patient = self._patient or patient
        try:
            yield patient
        finally:
            if patient:
                self._patient = False
