"""The times at which failed requests are tried again, and the log lines about them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from svcdns.sources.api.retry import Backoff, SharedRetry
from tests.support.followed import VirtualTime

LOG = logging.getLogger("outage-test")


def retry(time: VirtualTime, jitter: Callable[[], float] = lambda: 0.0) -> SharedRetry:
    """Returns a SharedRetry in virtual time."""
    return SharedRetry(LOG, time.sleep, clock=time.clock, jitter=jitter)


def test_back_off() -> None:
    """The delays are 0, 1, 2, 4 s and so on, up to 30 s. A random part of up to a half is subtracted. A success resets
    the delay.
    """
    backoff = Backoff(lambda: 0.0)
    assert [backoff.next() for _ in range(8)] == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    backoff.reset()
    assert backoff.next() == 0.0
    shortened = Backoff(lambda: 0.999)
    assert [shortened.next(), shortened.next()] == pytest.approx([0.0, 0.5], abs=0.01)


@pytest.mark.parametrize(
    ("jitter", "waits"), [(0.0, [0.3, 1.0, 1.0, 1.0]), (0.8, [0.54, 1.2, 1.2, 1.2])], ids=["none", "much"]
)
async def test_retries_are_a_second_apart(jitter: float, waits: list[float]) -> None:
    """Retries of all kinds share this rate, in the order of their requests."""
    time = VirtualTime()
    shared = retry(time, lambda: jitter)
    order: list[int] = []

    async def wait(number: int) -> None:
        await shared.next_try()
        order.append(number)

    await asyncio.gather(*(wait(number) for number in range(4)))
    assert order == [0, 1, 2, 3]
    assert time.waits == waits


async def test_a_success_wakes_all_waiting_retries() -> None:
    never = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        await never.wait()

    shared = SharedRetry(LOG, sleep, clock=lambda: 0.0, jitter=lambda: 0.0)
    waiting = [asyncio.create_task(shared.next_try()) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    shared.recovered()
    await asyncio.wait_for(asyncio.gather(*waiting), 10)
    later = asyncio.create_task(shared.next_try())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not later.done()
    later.cancel()
    await asyncio.gather(later, return_exceptions=True)


async def test_an_outage_logs_each_reason_and_its_end_once(caplog: pytest.LogCaptureFixture) -> None:
    shared = retry(VirtualTime())
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            shared.unreachable("connection refused", known=True)
            shared.unreachable("certificate verify failed", known=False)
        shared.answered()
        shared.answered()
    assert [record.getMessage() for record in caplog.records] == [
        'cannot reach the Kubernetes API: trying again error="connection refused" answers=last-known-state',
        'cannot reach the Kubernetes API: trying again error="certificate verify failed" answers=servfail',
        "the Kubernetes API answers again",
    ]


async def test_one_try_at_a_time_has_the_long_time_limit() -> None:
    """The long time limit is used only after several tries without an answer."""
    shared = retry(VirtualTime())
    with shared.long_timeout(2) as first, shared.long_timeout(3) as second, shared.long_timeout(7) as third:
        assert (first, second, third) == (False, True, False)
    with shared.long_timeout(3) as again:
        assert again
