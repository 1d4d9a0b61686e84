"""Blocking calls outside the event loop, with a time limit, and with one thread for each name."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from svcdns.process import blocking_io
from svcdns.process.blocking_io import BlockedError, BlockingCalls
from tests.support import fifos

LOG = logging.getLogger("blocking-test")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> BlockingCalls:
    """Returns an object for blocking calls, which logs each call that takes longer than 10 ms."""
    monkeypatch.setattr(blocking_io, "WARN_AFTER", 0.01)
    caplog.set_level(logging.INFO)
    return BlockingCalls(LOG)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event that is set after the test, so that no thread keeps waiting."""
    made = threading.Event()
    yield made
    made.set()


async def test_results_and_errors_are_those_of_the_call(calls: BlockingCalls) -> None:
    assert await calls.run("a", threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await calls.run("a", divmod, 1, 0)


async def test_a_file_that_hangs_does_not_stop_the_loop(
    calls: BlockingCalls, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A FIFO without a writer blocks its reader. The call ends at its time limit, with a WARNING. When the read
    returns, an INFO line is logged.
    """
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(BlockedError, match=r"the fifo: not done within 0\.05 s"):
        await calls.run("the fifo", (tmp_path / "fifo").read_bytes, limit=0.05)
    assert caplog.messages == ['file access is slow: still waiting files="the fifo" seconds=0.01']
    await fifos.write(tmp_path / "fifo", "")
    async with asyncio.timeout(30):
        while len(caplog.messages) < 2:
            await asyncio.sleep(0.001)
    assert caplog.messages[1:] == ['file access is no longer blocked files="the fifo"']


async def test_a_blocked_name_costs_one_thread(calls: BlockingCalls, gate: threading.Event) -> None:
    """Further calls for a file that hangs wait, and start no thread. Calls for other files run."""
    started: list[int] = []

    def block(number: int) -> int:
        started.append(number)
        gate.wait()
        return number

    for number in range(3):
        with pytest.raises(BlockedError):
            await calls.run("a", block, number, limit=0.02)
    async with asyncio.timeout(30):
        while not started:
            await asyncio.sleep(0.001)
    assert started == [0]
    waiting = asyncio.create_task(calls.run("a", block, 3))
    assert await calls.run("b", len, "") == 0
    assert await calls.run("a", len, "", key="another file") == 0
    assert not waiting.done()
    gate.set()
    assert await waiting == 3


async def test_the_thread_of_a_cancelled_caller_goes_on(calls: BlockingCalls, gate: threading.Event) -> None:
    """The exception of the call is dropped, and the next call works."""

    def fail() -> None:
        gate.wait()
        raise OSError

    waiting = asyncio.create_task(calls.run("a", fail))
    await asyncio.sleep(0.02)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    assert await calls.run("a", len, "") == 0
