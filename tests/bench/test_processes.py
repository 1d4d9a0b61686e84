"""CPU time and memory of processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.processes import PssSampler, cpu_seconds, end, pss_mib, spawn, tree, until

PARENT = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]]); print(child.pid, flush=True); child.wait()"
SPIN = "import time\nwhile time.process_time() < 0.2: pass\ntime.sleep(60)"
HOLD = "held = b'x' * (40 << 20); import time; time.sleep(60)"


def start(code: str) -> tuple[subprocess.Popen[bytes], int]:
    """A process that starts another; the latter's id."""
    process = spawn([sys.executable, "-c", PARENT, code], sorted(os.sched_getaffinity(0)), stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        return process, int(process.stdout.readline())


def test_the_children_count() -> None:
    """CPU time that a child takes is the tree's, to more than a clock tick."""
    process, child = start(SPIN)
    try:
        assert tree(process.pid) == [process.pid, child]
        until("0.2 s of CPU", lambda: cpu_seconds(process.pid) > 0.2, 20)
        assert cpu_seconds(process.pid) > cpu_seconds(child) > 0.15
    finally:
        end(process)
    assert process.returncode == -9
    assert cpu_seconds(process.pid) == 0.0


def test_memory_is_summed_and_sampled() -> None:
    """What a child holds is in the sum, and in the peak."""
    process, _ = start(HOLD)
    try:
        with PssSampler(process.pid, 0.005) as sampler:
            until("40 MiB", lambda: sampler.peak > 40, 20)
            assert pss_mib(process.pid) > 40
        assert sampler.samples
    finally:
        end(process)


def test_waiting_ends() -> None:
    """What does not come is given up."""
    with pytest.raises(TimeoutError, match="rain"):
        until("rain", lambda: False, 0.0)


def test_processes_run_where_they_are_told() -> None:
    """The cores are those of the call."""
    core = min(os.sched_getaffinity(0))
    process = spawn([sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"], [core], stdout=subprocess.PIPE)
    output, _ = process.communicate(timeout=20)
    assert output.decode().strip() == f"{{{core}}}"
