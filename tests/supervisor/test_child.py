"""One child process: its start, its exit, its heartbeat."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
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
    pin_to_processor,
)


@pytest.fixture
def child() -> Iterator[Child]:
    """Creates a child that is not started; its program exits at once."""
    with open(os.devnull, "rb") as shared:
        made = Child("worker 0", ["svcdns.cli.preflight"], 0, 1, memoryview(bytearray(REGION_SIZE)), shared.fileno())
        yield made
        if made.pid:
            made.kill()
            os.waitpid(made.pid, 0)
        if made.channel is not None:
            made.channel.close()


def heartbeat_at(child: Child, now: float) -> None:
    """Writes a heartbeat of that time, as the process would."""
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
    """After its first exit, a child is started at once, and after later ones with a growing delay up to MAX_BACKOFF."""
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
    """A worker is unresponsive if it sends no heartbeat for HEARTBEAT_TIMEOUT, or none within START_TIMEOUT of its
    start. Time in which the supervisor itself was stopped does not count.
    """
    child.started = 100.0
    assert not child.is_unresponsive(100.0 + START_TIMEOUT, 0.0)
    assert child.is_unresponsive(101.0 + START_TIMEOUT, 0.0)
    heartbeat_at(child, 200.0)
    assert not child.is_unresponsive(200.0 + HEARTBEAT_TIMEOUT, 0.0)
    assert child.is_unresponsive(200.1 + HEARTBEAT_TIMEOUT, 0.0)
    assert not child.is_unresponsive(260.0, 259.0)


def test_waiting_for_a_processor_does_not_count(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time in which a process waited for a processor does not count as time without a heartbeat."""
    waits = iter([5.0, 7.5, 7.5, 7.5])
    monkeypatch.setattr(child_module, "_processor_wait", lambda _pid: next(waits))
    heartbeat_at(child, 200.0)
    assert not child.is_unresponsive(200.0 + LATE, 0.0)
    assert not child.is_unresponsive(201.6, 0.0)
    assert not child.is_unresponsive(205.4, 0.0)
    assert child.is_unresponsive(205.6, 0.0)
    heartbeat_at(child, 210.0)
    assert not child.is_unresponsive(210.0 + HEARTBEAT_TIMEOUT, 0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of macOS does not tell")
def test_processor_wait_is_read_from_the_kernel() -> None:
    """The time for which a process waited for a processor is in seconds, and 0 for a process that is gone."""
    before = child_module._processor_wait(os.getpid())
    assert 0.0 < before <= child_module._processor_wait(os.getpid()) < time.monotonic()
    assert child_module._processor_wait(2**22 + 1) == 0.0


def test_a_start_discards_the_last_heartbeat(child: Child) -> None:
    """When a child starts, the heartbeat of the previous process no longer counts."""
    heartbeat_at(child, 50.0)
    child.start(100.0)
    assert not child.is_unresponsive(101.0, 0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of macOS has no affinity")
def test_workers_are_pinned_to_processors_in_turn() -> None:
    """Worker slots are assigned to the permitted processors round robin."""
    allowed = sorted(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        try:
            for slot in range(3):
                pin_to_processor(child.pid, slot)
                assert os.sched_getaffinity(child.pid) == {allowed[slot % len(allowed)]}
        finally:
            child.kill()
