"""Time slices for long work."""

from __future__ import annotations

import asyncio

from svcdns.eventloop.time_slice import TimeSlice


def test_a_slice_is_over_after_its_time() -> None:
    """A time slice is over after its time; `restart` begins a new one."""
    long, short = TimeSlice(1000), TimeSlice(-1)
    assert not long.is_over
    assert short.is_over
    long.restart()
    assert not long.is_over


async def test_a_pause_lets_other_work_run() -> None:
    """`pause` lets other callbacks run only if the time slice is over."""
    ran: list[int] = []
    asyncio.get_running_loop().call_soon(ran.append, 1)
    await TimeSlice(1000).pause()
    assert not ran
    await TimeSlice(-1).pause()
    assert ran == [1]
