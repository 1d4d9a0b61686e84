"""When to try again, and what to say about it: back-off, and the outage that all watches of one API server share.

An outage is said once and its end once, however many watches it hits; and the first watch that gets through wakes the
others, so that recovery does not wait for the longest back-off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

FIRST_DELAY = 0.8
LONGEST_DELAY = 30.0

Sleep = Callable[[float], Awaitable[None]]
"""Waits that many seconds."""

Jitter = Callable[[], float]
"""A random number from 0 up to 1."""


class Backoff:
    """Doubling delays from 0.8 s to 30 s, each shortened at random by up to a half so that clients of one server spread out."""

    def __init__(self, jitter: Jitter) -> None:
        self._jitter = jitter
        self.failures = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        delay = min(FIRST_DELAY * 2.0 ** min(self.failures, 10), LONGEST_DELAY)
        self.failures += 1
        return delay * (1 - self._jitter() / 2)

    def reset(self) -> None:
        """Start from the shortest delay again."""
        self.failures = 0


class Outage:
    """Whether the API server can be reached at all."""

    def __init__(self, log: logging.Logger, sleep: Sleep) -> None:
        self._log = log
        self._sleep = sleep
        self._ended = asyncio.Event()
        self._ended.set()

    def failed(self, reason: str) -> None:
        """A request got no answer."""
        if self._ended.is_set():
            self._ended.clear()
            self._log.warning("cannot reach the Kubernetes API: %s; answering from the last known state and trying again", reason)

    def answered(self) -> None:
        """A request got an answer."""
        if not self._ended.is_set():
            self._ended.set()
            self._log.info("the Kubernetes API answers again")

    async def pause(self, seconds: float) -> None:
        """Wait, in an outage only until its end."""
        if self._ended.is_set():
            await self._sleep(seconds)
            return
        waits = [asyncio.ensure_future(self._sleep(seconds)), asyncio.ensure_future(self._ended.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
