"""Time slices, which divide long work so that the event loop can do other work between them."""

from __future__ import annotations

import asyncio

from svcdns.eventloop.time_slice import TimeSlice


def test_a_slice_is_over_after_its_time() -> None:
    long, short = TimeSlice(1000), TimeSlice(-1)
    assert not long.is_over
    assert short.is_over
    long.restart()
    assert not long.is_over


async def test_a_pause_lets_other_work_run() -> None:
    ran: list[int] = []
    asyncio.get_running_loop().call_soon(ran.append, 1)
    await TimeSlice(1000).pause()
    assert not ran
    await TimeSlice(-1).pause()
    assert ran == [1]
