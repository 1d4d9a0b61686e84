"""A child process: its start, its exit and its heartbeat."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from svcdns.process.shared_memory import REGION_SIZE
from svcdns.supervisor import child as child_module
from svcdns.supervisor.child import (
    HEARTBEAT_TIMEOUT,
    LATE,
    MAX_BACKOFF,
    STABLE_AFTER,
    START_TIMEOUT,
    Child,
    ThreadTimes,
    pin_to_processor,
)


@pytest.fixture
def child() -> Iterator[Child]:
    """Creates a child that is not started. Its program exits immediately."""
    with open(os.devnull, "rb") as shared:
        made = Child("worker 0", ["svcdns.cli.preflight"], 0, 1, memoryview(bytearray(REGION_SIZE)), shared.fileno())
        yield made
        if made.pid:
            made.kill()
            os.waitpid(made.pid, 0)
        if made.channel is not None:
            made.channel.close()


def heartbeat_at(child: Child, now: float) -> None:
    """Writes a heartbeat with this time, as the process would."""
    child._region[0:8] = struct.pack("d", now)


def test_start_and_exit(child: Child) -> None:
    """A started child has a channel, which is closed when the process exits."""
    child.start(100.0)
    assert child.running
    assert child.channel is not None
    os.kill(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)
    child.exited(100.5)
    assert not child.running
    assert child.channel is None
    child.send({"op": "nothing"})  # does nothing


def test_restarts_in_a_crash_loop_are_delayed(child: Child) -> None:
    """After its first exit, a child is started immediately. The later delays grow up to MAX_BACKOFF."""
    delays = []
    for _ in range(9):
        child.started = 100.0
        child.exited(101.0)
        delays.append(child.start_at - 101.0)
    assert delays[0] == 0.0
    assert delays == sorted(delays)
    assert delays[-1] == MAX_BACKOFF
    child.started = 100.0
    child.exited(100.0 + STABLE_AFTER + 1)
    assert child.start_at == 100.0 + STABLE_AFTER + 1


def test_a_missing_heartbeat(child: Child) -> None:
    """A worker is unresponsive after HEARTBEAT_TIMEOUT, or after START_TIMEOUT if it has just started. Time in which
    the supervisor was stopped does not count.
    """
    child.started = 100.0
    assert not child.is_unresponsive(100.0 + START_TIMEOUT, 0.0)
    assert child.is_unresponsive(101.0 + START_TIMEOUT, 0.0)
    heartbeat_at(child, 200.0)
    assert not child.is_unresponsive(200.0 + HEARTBEAT_TIMEOUT, 0.0)
    assert child.is_unresponsive(200.1 + HEARTBEAT_TIMEOUT, 0.0)
    assert not child.is_unresponsive(260.0, 259.0)


def thread_times(monkeypatch: pytest.MonkeyPatch, *checks: dict[str, tuple[float, float]]) -> None:
    """Replaces the kernel's times of threads, running and waiting. Each check gets the next times."""
    reports = iter(checks)
    monkeypatch.setattr(
        child_module,
        "_thread_times",
        lambda _pid: {number: ThreadTimes(*times) for number, times in next(reports).items()},
    )


def test_waiting_for_a_processor_does_not_count(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without a heartbeat may have waited for a processor."""
    thread_times(monkeypatch, *({"1": (float(at), waited)} for at, waited in enumerate((5.0, 7.5, 7.5, 7.5))))
    heartbeat_at(child, 200.0)
    assert not child.is_unresponsive(200.0 + LATE, 0.0)
    assert not child.is_unresponsive(200.6, 0.0)
    assert not child.is_unresponsive(205.4, 0.0)
    assert child.is_unresponsive(205.6, 0.0)
    heartbeat_at(child, 210.0)
    assert not child.is_unresponsive(210.0 + HEARTBEAT_TIMEOUT, 0.0)


def test_waiting_of_another_thread_does_not_count(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that waits for a processor may hold the interpreter lock."""
    thread_times(
        monkeypatch,
        {"1": (1.0, 0.0)},
        {"1": (1.0, 0.1), "2": (0.5, 1.4)},
        {"1": (1.0, 0.1), "3": (0.5, 1.0)},
        {"1": (1.0, 0.1), "3": (0.5, 1.0)},
    )
    heartbeat_at(child, 200.0)
    assert not child.is_unresponsive(200.6, 0.0)
    assert not child.is_unresponsive(204.4, 0.0)
    assert not child.is_unresponsive(205.4, 0.0)
    assert child.is_unresponsive(205.6, 0.0)


def test_a_wait_that_has_not_ended_does_not_count(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel adds a thread's wait only when the thread runs again, so a runnable thread counts as waiting."""
    thread_times(monkeypatch, *({"1": (run, 0.0)} for run in (1.0, 1.0, 1.0, 1.1)))
    runnable = iter((True, False, True))
    monkeypatch.setattr(child_module, "_is_runnable", lambda _pid, _number: next(runnable))
    heartbeat_at(child, 200.0)
    assert not child.is_unresponsive(200.6, 0.0)
    assert not child.is_unresponsive(204.0, 0.0)
    assert child.is_unresponsive(204.1, 0.0)
    assert child.is_unresponsive(204.2, 0.0)
    assert list(runnable) == [True]


def test_waiting_before_the_first_heartbeat_does_not_count(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start may then take longer than START_TIMEOUT."""
    thread_times(monkeypatch, *({"1": (float(at), waited)} for at, waited in enumerate((0.5, 20.5, 20.5))))
    child.started = 100.0
    assert not child.is_unresponsive(101.0, 0.0)
    assert not child.is_unresponsive(119.9 + START_TIMEOUT, 0.0)
    assert child.is_unresponsive(120.1 + START_TIMEOUT, 0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of macOS does not tell")
def test_times_of_threads_are_read_from_the_kernel() -> None:
    """The times are in seconds. A process that has ended has no threads."""
    number = str(threading.get_native_id())
    before = child_module._thread_times(os.getpid())[number]
    now = child_module._thread_times(os.getpid())[number]
    assert 0.0 < before.run <= now.run < time.monotonic()
    assert 0.0 < before.waited <= now.waited < time.monotonic()
    assert child_module._thread_times(2**22 + 1) == {}
    assert child_module._is_runnable(os.getpid(), number)
    assert not child_module._is_runnable(2**22 + 1, "1")


def test_a_start_discards_the_last_heartbeat(child: Child) -> None:
    """The heartbeat of the previous process must not count."""
    heartbeat_at(child, 50.0)
    child.start(100.0)
    assert not child.is_unresponsive(101.0, 0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of macOS has no affinity")
def test_workers_are_pinned_to_processors_in_turn() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        try:
            for slot in range(3):
                pin_to_processor(child.pid, slot)
                assert os.sched_getaffinity(child.pid) == {allowed[slot % len(allowed)]}
        finally:
            child.kill()
