"""One child process: starting, dying, being silent."""

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
from svcdns.supervisor.child import FIRST_BEAT, LATE, SETTLED, SILENCE, SLOWEST, Child, keep_on_processor


@pytest.fixture
def child() -> Iterator[Child]:
    """A child that has not been started; what it runs ends at once."""
    with open(os.devnull, "rb") as shared:
        made = Child("worker 0", ["svcdns.cli.preflight"], 0, 1, memoryview(bytearray(REGION_SIZE)), shared.fileno())
        yield made
        if made.pid:
            made.kill()
            os.waitpid(made.pid, 0)
        if made.channel is not None:
            made.channel.close()


def beat(child: Child, now: float) -> None:
    """Writes a heartbeat, as the process would."""
    child._region[0:8] = struct.pack("d", now)


def test_start_and_death(child: Child) -> None:
    """The process gets a channel; its end closes that."""
    child.start(100.0)
    assert child.running
    assert child.channel is not None
    os.kill(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)
    child.died(100.5)
    assert not child.running
    assert child.channel is None
    child.send({"op": "nothing"})  # goes nowhere


def test_a_crash_loop_slows_down(child: Child) -> None:
    """The first death is made good at once; those after it more and more slowly, up to a bound."""
    delays = []
    for _ in range(9):
        child.started = 100.0
        child.died(101.0)
        delays.append(child.start_at - 101.0)
    assert delays[0] == 0.0
    assert delays == sorted(delays)
    assert delays[-1] == SLOWEST
    child.started = 100.0
    child.died(100.0 + SETTLED + 1)
    assert child.start_at == 100.0 + SETTLED + 1


def test_silence(child: Child) -> None:
    """After three seconds without a beat; a start has longer; time in which we stood still ourselves does not count."""
    child.started = 100.0
    assert not child.is_silent(100.0 + FIRST_BEAT, 0.0)
    assert child.is_silent(101.0 + FIRST_BEAT, 0.0)
    beat(child, 200.0)
    assert not child.is_silent(200.0 + SILENCE, 0.0)
    assert child.is_silent(200.1 + SILENCE, 0.0)
    assert not child.is_silent(260.0, 259.0)


def test_to_wait_for_a_processor_is_no_silence(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that gets none is not killed for it; one that has what it needs is."""
    waits = iter([5.0, 7.5, 7.5, 7.5])
    monkeypatch.setattr(child_module, "_waited", lambda _pid: next(waits))
    beat(child, 200.0)
    assert not child.is_silent(200.0 + LATE, 0.0)
    assert not child.is_silent(201.6, 0.0)
    assert not child.is_silent(205.4, 0.0)
    assert child.is_silent(205.6, 0.0)
    beat(child, 210.0)
    assert not child.is_silent(210.0 + SILENCE, 0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of macOS does not tell")
def test_the_kernel_tells_how_long_a_process_has_waited() -> None:
    """In seconds, which only grow; nothing is said of a process that is gone."""
    before = child_module._waited(os.getpid())
    assert 0.0 < before <= child_module._waited(os.getpid()) < time.monotonic()
    assert child_module._waited(2**22 + 1) == 0.0


def test_a_new_life_begins_without_a_beat(child: Child) -> None:
    """What the one before it has written does not count."""
    beat(child, 50.0)
    child.start(100.0)
    assert not child.is_silent(101.0, 0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of macOS has no affinity")
def test_workers_are_kept_on_processors_of_their_own() -> None:
    """In turn, on those that the program may use."""
    allowed = sorted(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        try:
            for slot in range(3):
                keep_on_processor(child.pid, slot)
                assert os.sched_getaffinity(child.pid) == {allowed[slot % len(allowed)]}
        finally:
            child.kill()
