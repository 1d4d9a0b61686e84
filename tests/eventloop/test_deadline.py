"""A deadline that may be put off."""

from __future__ import annotations

import asyncio

import pytest

from svcdns.eventloop.deadline import Deadline


class Loop:
    """An event loop whose time the test moves."""

    def __init__(self) -> None:
        """The clock starts at 0."""
        self.now = 0.0
        self.timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        """Returns the time."""
        return self.now

    def call_at(self, when: float, call: object) -> asyncio.TimerHandle:
        """Creates a timer and keeps it for the test."""
        handle = asyncio.TimerHandle(when, call, (), asyncio.get_running_loop())  # type: ignore[arg-type]
        self.timers.append(handle)
        return handle

    def move(self, now: float) -> None:
        """Sets the time, and runs the timers that are due."""
        self.now = now
        due = [timer for timer in self.timers if timer.when() <= now and not timer.cancelled()]
        self.timers = [timer for timer in self.timers if timer not in due]
        for timer in due:
            timer._run()


@pytest.fixture
async def loop() -> Loop:
    """Returns an event loop whose time the test sets."""
    return Loop()


async def test_it_comes_when_it_was_put_off_to(loop: Loop) -> None:
    """A deadline that was moved several times calls once, at the last time, with a single timer."""
    calls: list[float] = []
    deadline = Deadline(loop, lambda: calls.append(loop.now))  # type: ignore[arg-type]
    for now in range(5):
        loop.move(now)
        deadline.set(10)
    assert len(loop.timers) == 1
    deadline.at = 20.0
    for now in range(5, 30):
        loop.move(now)
    assert calls == [20]


async def test_it_may_come_sooner(loop: Loop) -> None:
    """A deadline that is moved to an earlier time calls at that time."""
    calls: list[float] = []
    deadline = Deadline(loop, lambda: calls.append(loop.now))  # type: ignore[arg-type]
    deadline.set(10)
    deadline.set(2)
    loop.move(3)
    loop.move(11)
    assert calls == [3]


async def test_it_can_be_cancelled(loop: Loop) -> None:
    """A cancelled deadline does not call, and can be set again."""
    calls: list[float] = []
    deadline = Deadline(loop, lambda: calls.append(loop.now))  # type: ignore[arg-type]
    deadline.set(1)
    deadline.cancel()
    loop.move(2)
    assert not calls
    deadline.set(1)
    loop.move(4)
    assert calls == [4]
