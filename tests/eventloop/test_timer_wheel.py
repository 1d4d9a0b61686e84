"""The timer wheel."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from svcdns.eventloop.timer_wheel import TICK, TimerWheel, cancel
from tests.support import world


async def test_timers_run_in_order_and_never_early() -> None:
    clock = world.Clock()
    called: list[float] = []
    timer_wheel = TimerWheel(clock)
    for seconds in (0.5, 0.1, 2.0, 0.1):
        timer_wheel.at(clock() + seconds, partial(called.append, seconds))
    timer_wheel.run_due()
    assert called == []
    clock.turn(0.09)
    timer_wheel.run_due()
    assert called == []
    clock.turn(0.5)
    timer_wheel.run_due()
    assert called == [0.1, 0.1, 0.5]
    clock.turn(10)
    timer_wheel.run_due()
    assert called == [0.1, 0.1, 0.5, 2.0]


async def test_a_callback_may_start_another_timer() -> None:
    """If the new timer is already due, it runs at the next tick."""
    clock = world.Clock()
    called: list[float] = []
    timer_wheel = TimerWheel(clock)

    def another() -> None:
        timer_wheel.at(clock() - 5, partial(called.append, 1))

    timer_wheel.at(clock() - 5, another)
    clock.turn(TICK)
    timer_wheel.run_due()
    assert called == []
    clock.turn(TICK)
    timer_wheel.run_due()
    assert called == [1]


async def test_a_callback_that_raises_does_not_stop_the_others() -> None:
    clock = world.Clock()
    called: list[int] = []
    logged: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    timer_wheel = TimerWheel(clock)

    def broken() -> None:
        raise IndexError

    timer_wheel.at(clock(), broken)
    timer_wheel.at(clock(), lambda: called.append(2))
    clock.turn(1)
    timer_wheel.run_due()
    assert called == [2]
    assert len(logged) == 1


async def test_the_event_loop_runs_due_callbacks() -> None:
    clock, called = world.Clock(), asyncio.Event()
    timer_wheel = TimerWheel(clock)
    timer_wheel.at(clock(), called.set)
    clock.turn(1)
    await asyncio.wait_for(called.wait(), 10)
    assert timer_wheel._handle is None


async def test_no_callback_runs_after_stop() -> None:
    clock = world.Clock()
    called: list[float] = []
    timer_wheel = TimerWheel(clock)
    timer_wheel.at(clock(), lambda: called.append(1))
    timer_wheel.stop()
    clock.turn(1)
    timer_wheel.run_due()
    assert called == []


async def test_a_cancelled_timer_does_not_wake_the_event_loop() -> None:
    clock = world.Clock()
    called: list[float] = []
    timer_wheel = TimerWheel(clock)
    first, second = (timer_wheel.at(clock() + 0.1, partial(called.append, number)) for number in (1, 2))
    cancel(first)
    clock.turn(0.2)
    timer_wheel.run_due()
    assert called == [2]
    cancel(second)
    cancel(timer_wheel.at(clock() + 0.1, lambda: called.append(3)))
    timer_wheel.run_due()
    assert timer_wheel._handle is None
    timer_wheel.at(clock() + 0.1, lambda: called.append(4))
    assert timer_wheel._handle is not None
    timer_wheel.stop()


async def test_the_event_loop_wakes_when_the_first_timer_is_due() -> None:
    clock, loop = world.Clock(), asyncio.get_running_loop()
    timer_wheel = TimerWheel(clock)
    for seconds in (5.0, 3.0, 4.0):
        timer_wheel.at(clock() + seconds, lambda: None)
    assert timer_wheel._handle is not None
    assert 2.9 < timer_wheel._handle.when() - loop.time() < 3.1
    clock.turn(3.5)
    timer_wheel.run_due()
    assert 0.4 < timer_wheel._handle.when() - loop.time() < 0.6
    timer_wheel.stop()


async def test_many_due_callbacks_run_over_several_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svcdns.eventloop.timer_wheel.SLICE", -1.0)
    clock, over = world.Clock(), asyncio.Event()
    called: list[int] = []
    timer_wheel = TimerWheel(clock)
    made = [
        timer_wheel.at(clock() + seconds, partial(called.append, number))
        for number, seconds in enumerate((0.1, 0.1, 0.1, 0.5, 0.5))
    ]
    timer_wheel.at(clock() + 0.5, over.set)
    clock.turn(1)
    timer_wheel.run_due()
    assert called == [0]
    cancel(made[1])
    cancel(made[4])
    await asyncio.wait_for(over.wait(), 10)
    assert called == [0, 2, 3]
    await asyncio.sleep(0)  # from CPython 3.12 on, wait_for comes back an iteration earlier
    assert timer_wheel._handle is None
