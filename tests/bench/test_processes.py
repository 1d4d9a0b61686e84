"""CPU time and memory of a process tree."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.processes import PssSampler, cpu_seconds, cpu_seconds_since_start, kill_tree, pss_mib, spawn, tree, until

PARENT = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]]); print(child.pid, flush=True); child.wait()"
SPIN = "import time\nwhile time.process_time() < 0.2: pass\ntime.sleep(60)"
ENDED_CHILD = """
import subprocess, sys, time
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.2: pass"])
print("ended", flush=True)
time.sleep(60)
"""
ALLOCATE = "block = b'x' * (40 << 20); import time; time.sleep(60)"


def start(code: str) -> tuple[subprocess.Popen[bytes], int]:
    """Starts a process that starts a child. Returns the process, and the id of the child."""
    process = spawn([sys.executable, "-c", PARENT, code], sorted(os.sched_getaffinity(0)), stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        return process, int(process.stdout.readline())


def test_cpu_time_includes_children() -> None:
    """CPU time is measured at a finer resolution than a clock tick."""
    process, child = start(SPIN)
    try:
        assert tree(process.pid) == [process.pid, child]
        until("0.2 s of CPU", lambda: cpu_seconds(process.pid) > 0.2, 20)
        assert cpu_seconds(process.pid) > cpu_seconds(child) > 0.15
    finally:
        kill_tree(process)
    assert process.returncode == -9
    assert cpu_seconds(process.pid) == 0.0


def test_cpu_time_of_ended_children_is_counted() -> None:
    """The CPU time of a child that has ended is part of the time since the start."""
    process = spawn([sys.executable, "-c", ENDED_CHILD], sorted(os.sched_getaffinity(0)), stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == b"ended\n"
        assert cpu_seconds_since_start(process.pid) >= 0.2
    finally:
        kill_tree(process)


def test_memory_is_summed_and_sampled() -> None:
    process, _ = start(ALLOCATE)
    try:
        with PssSampler(process.pid, 0.005) as sampler:
            until("40 MiB", lambda: sampler.peak > 40, 20)
            assert pss_mib(process.pid) > 40
        assert sampler.samples
    finally:
        kill_tree(process)


def test_the_error_of_a_wait_says_what_was_awaited() -> None:
    with pytest.raises(TimeoutError, match="the probe"):
        until("the probe", lambda: False, 0.0)


def test_processes_run_on_the_given_cores() -> None:
    core = min(os.sched_getaffinity(0))
    process = spawn([sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"], [core], stdout=subprocess.PIPE)
    output, _ = process.communicate(timeout=20)
    assert output.decode().strip() == f"{{{core}}}"
