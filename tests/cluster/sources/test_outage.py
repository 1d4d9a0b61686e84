"""When to try again, and what is said of it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from svcdns.cluster.sources.outage import LONGEST_DELAY, Backoff, Outage


def test_back_off() -> None:
    """Doubles up to a bound; each delay is shortened at random by up to a half; a success starts it anew."""
    backoff = Backoff(lambda: 0.0)
    assert [backoff.next() for _ in range(8)] == [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]
    backoff.reset()
    assert backoff.next() == 0.8
    assert Backoff(lambda: 0.999).next() == pytest.approx(0.4, rel=0.01)
    assert LONGEST_DELAY == 30.0


async def test_the_first_that_gets_through_wakes_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """Recovery does not wait for the longest back-off; an outage is two lines."""
    never = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        await never.wait()

    outage = Outage(logging.getLogger("outage-test"), sleep)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            outage.failed("connection refused")
        waiting = [asyncio.create_task(outage.pause(30)) for _ in range(3)]
        await asyncio.sleep(0)
        outage.answered()
        outage.answered()
        await asyncio.wait_for(asyncio.gather(*waiting), 10)
    assert [record.getMessage() for record in caplog.records] == [
        "cannot reach the Kubernetes API: connection refused; answering from the last known state and trying again",
        "the Kubernetes API answers again",
    ]


async def test_other_trouble_is_waited_out() -> None:
    """Where the API server can be reached, the whole time."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    await Outage(logging.getLogger("outage-test"), sleep).pause(7.0)
    assert slept == [7.0]
