"""Calls at about a given time."""

from __future__ import annotations

import asyncio

import pytest

from svcdns.eventloop.timer_wheel import TICK, Alarms, call_off
from tests.support import world


async def test_calls_when_the_time_has_come() -> None:
    """In the order of the times, by the clock; never early."""
    clock, called = world.Clock(), []
    alarms = Alarms(clock)
    for seconds in (0.5, 0.1, 2.0, 0.1):
        alarms.at(clock() + seconds, lambda seconds=seconds: called.append(seconds))
    alarms.look()
    assert called == []
    clock.turn(0.09)
    alarms.look()
    assert called == []
    clock.turn(0.5)
    alarms.look()
    assert called == [0.1, 0.1, 0.5]
    clock.turn(10)
    alarms.look()
    assert called == [0.1, 0.1, 0.5, 2.0]


async def test_an_alarm_may_set_another() -> None:
    """Also one that is due already."""
    clock, called = world.Clock(), []
    alarms = Alarms(clock)
    alarms.at(clock() - 5, lambda: alarms.at(clock() - 5, lambda: called.append(1)))
    clock.turn(TICK)
    alarms.look()
    assert called == []
    clock.turn(TICK)
    alarms.look()
    assert called == [1]


async def test_an_alarm_that_breaks_does_not_keep_others_from_theirs() -> None:
    """It is reported as the event loop reports callbacks."""
    clock, called, told = world.Clock(), [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    alarms = Alarms(clock)
    alarms.at(clock(), lambda: called[1])
    alarms.at(clock(), lambda: called.append(2))
    clock.turn(1)
    alarms.look()
    assert called == [2]
    assert len(told) == 1


async def test_the_event_loop_looks() -> None:
    """While there is something to look for."""
    clock, called = world.Clock(), asyncio.Event()
    alarms = Alarms(clock)
    alarms.at(clock(), called.set)
    clock.turn(1)
    await asyncio.wait_for(called.wait(), 10)
    assert alarms._timer is None


async def test_stop() -> None:
    """Nothing is called any more."""
    clock, called = world.Clock(), []
    alarms = Alarms(clock)
    alarms.at(clock(), lambda: called.append(1))
    alarms.stop()
    clock.turn(1)
    alarms.look()
    assert called == []


async def test_a_call_that_was_called_off() -> None:
    """Does not come; nor does the event loop look for it, as for one that is called off when it has come."""
    clock, called = world.Clock(), []
    alarms = Alarms(clock)
    first, second = (alarms.at(clock() + 0.1, lambda number=number: called.append(number)) for number in (1, 2))
    call_off(first)
    clock.turn(0.2)
    alarms.look()
    assert called == [2]
    call_off(second)
    call_off(alarms.at(clock() + 0.1, lambda: called.append(3)))
    alarms.look()
    assert alarms._timer is None
    alarms.at(clock() + 0.1, lambda: called.append(4))
    assert alarms._timer is not None
    alarms.stop()


async def test_the_next_look_is_when_the_first_is_due() -> None:
    """Not before, however many are to come."""
    clock, loop = world.Clock(), asyncio.get_running_loop()
    alarms = Alarms(clock)
    for seconds in (5.0, 3.0, 4.0):
        alarms.at(clock() + seconds, lambda: None)
    assert alarms._timer is not None
    assert 2.9 < alarms._timer.when() - loop.time() < 3.1
    clock.turn(3.5)
    alarms.look()
    assert 0.4 < alarms._timer.when() - loop.time() < 0.6
    alarms.stop()


async def test_what_takes_long_comes_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have their turn in between; what is called off meanwhile does not come."""
    monkeypatch.setattr("svcdns.eventloop.timer_wheel.SLICE", -1.0)
    clock, called, over = world.Clock(), [], asyncio.Event()
    alarms = Alarms(clock)
    made = [
        alarms.at(clock() + seconds, lambda number=number: called.append(number))
        for number, seconds in enumerate((0.1, 0.1, 0.1, 0.5, 0.5))
    ]
    alarms.at(clock() + 0.5, over.set)
    clock.turn(1)
    alarms.look()
    assert called == [0]
    call_off(made[1])
    call_off(made[4])
    await asyncio.wait_for(over.wait(), 10)
    assert called == [0, 2, 3]
    assert alarms._timer is None
