"""Calls that block: outside the event loop, with a limit, one thread for each name."""

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
    """Returns blocking calls that are logged after 10 ms."""
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
    """The call runs in another thread; its result is returned, and its exception raised."""
    assert await calls.run("a", threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await calls.run("a", divmod, 1, 0)


async def test_a_file_that_hangs_does_not_stop_the_loop(
    calls: BlockingCalls, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A read that blocks does not stop the event loop. A WARNING line is logged, the call ends at its limit, and an
    INFO line is logged when the read returns. A FIFO without a writer blocks its reader.
    """
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(BlockedError, match=r"the fifo: not done within 0\.05 s"):
        await calls.run("the fifo", (tmp_path / "fifo").read_bytes, limit=0.05)
    assert caplog.messages == ["the fifo: not done after 0.01 s, still waiting"]
    await fifos.write(tmp_path / "fifo", "")
    async with asyncio.timeout(5):
        while len(caplog.messages) < 2:
            await asyncio.sleep(0.001)
    assert caplog.messages[1:] == ["the fifo: no longer blocked"]


async def test_a_blocked_name_costs_one_thread(calls: BlockingCalls, gate: threading.Event) -> None:
    """If a file hangs, further calls for this file wait and start no thread; calls for other files run."""
    started: list[int] = []

    def block(number: int) -> int:
        started.append(number)
        gate.wait()
        return number

    for number in range(3):
        with pytest.raises(BlockedError):
            await calls.run("a", block, number, limit=0.02)
    assert started == [0]
    waiting = asyncio.create_task(calls.run("a", block, 3))
    assert await calls.run("b", len, "") == 0
    assert await calls.run("a", len, "", key="another file") == 0
    assert not waiting.done()
    gate.set()
    assert await waiting == 3


async def test_a_cancelled_caller_leaves_the_thread(calls: BlockingCalls, gate: threading.Event) -> None:
    """If the caller is cancelled, the call's later exception is dropped, and the next call works."""

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
