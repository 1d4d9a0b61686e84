"""A deadline that can be postponed."""

from __future__ import annotations

import asyncio

import pytest

from svcdns.eventloop.deadline import Deadline


class Loop:
    """An event loop whose clock the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: object) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, call, (), asyncio.get_running_loop())  # type: ignore[arg-type]
        self.timers.append(handle)
        return handle

    def move(self, now: float) -> None:
        self.now = now
        due = [timer for timer in self.timers if timer.when() <= now and not timer.cancelled()]
        self.timers = [timer for timer in self.timers if timer not in due]
        for timer in due:
            timer._run()


@pytest.fixture
async def loop() -> Loop:
    return Loop()


async def test_a_postponed_deadline_calls_once(loop: Loop) -> None:
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


async def test_a_deadline_may_be_moved_to_an_earlier_time(loop: Loop) -> None:
    calls: list[float] = []
    deadline = Deadline(loop, lambda: calls.append(loop.now))  # type: ignore[arg-type]
    deadline.set(10)
    deadline.set(2)
    loop.move(3)
    loop.move(11)
    assert calls == [3]


async def test_a_cancelled_deadline_can_be_set_again(loop: Loop) -> None:
    calls: list[float] = []
    deadline = Deadline(loop, lambda: calls.append(loop.now))  # type: ignore[arg-type]
    deadline.set(1)
    deadline.cancel()
    loop.move(2)
    assert not calls
    deadline.set(1)
    loop.move(4)
    assert calls == [4]
