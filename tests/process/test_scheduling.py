"""The scheduling that a worker requests for itself."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from svcdns.process.scheduling import (
    ENCRYPTED_NICE,
    SLICE_NANOSECONDS,
    SWITCH_INTERVAL,
    request_short_slices,
    shorten_switch_interval,
)

ASK = """
import ctypes, struct, sys
from svcdns.process import scheduling
asked = scheduling.request_short_slices()
seen = ctypes.create_string_buffer(48)
ctypes.CDLL(None).syscall(scheduling._SYSTEM_CALL["x86_64"] + 1, 0, seen, 48, 0)
print(asked, *scheduling._ATTRIBUTES.unpack(seen.raw)[1:6])
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of system calls are those of x86-64")
def test_a_short_scheduler_slice_is_requested() -> None:
    """The niceness and the policy stay the same. Kernels before 6.12 ignore the slice."""
    assert ctypes.sizeof(ctypes.c_void_p) == 8
    shown = subprocess.run([sys.executable, "-c", ASK], check=True, capture_output=True, text=True).stdout.split()
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    assert shown[:4] == ["True", "0", "0", str(nice)]
    assert shown[5] in (str(SLICE_NANOSECONDS), "0")


def test_the_switch_interval_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's threads may switch every 0.1 ms."""
    taken: list[float] = []
    monkeypatch.setattr(sys, "setswitchinterval", taken.append)
    shorten_switch_interval()
    assert taken == [SWITCH_INTERVAL] == [0.0001]


def test_the_worker_for_encrypted_transports_gives_way() -> None:
    """A process of its own, because the nice value cannot be lowered again."""
    program = "import os; from svcdns.process import scheduling; scheduling.give_way(); print(os.nice(0))"
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert int(shown) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + ENCRYPTED_NICE)


def test_nothing_is_requested_on_unknown_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of the system call depends on the machine type."""
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    assert not request_short_slices()
