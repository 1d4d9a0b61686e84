"""The preflight check of a new program before an upgrade in place."""

from __future__ import annotations

import os
import sys
import time

import pytest

from svcdns import __version__
from svcdns.feed.format import handover_format
from svcdns.supervisor import preflight
from svcdns.supervisor.preflight import TIMEOUT, Preflight, PreflightError


def wait_for(made: Preflight) -> int:
    """Waits for the preflight check to end, and returns its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(made.pid, 0)[1])


def test_the_present_program_passes() -> None:
    made = Preflight(time.monotonic())
    assert made.result(wait_for(made), handover_format()) == __version__


def test_another_hand_over_format_is_refused() -> None:
    made = Preflight(time.monotonic())
    with pytest.raises(
        PreflightError, match=r"its hand-over format is \d+\.\w+, this program's is 0\.x: a restart is needed"
    ):
        made.result(wait_for(made), "0.x")


def test_a_program_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "PROGRAM", "svcdns.nothing")
    made = Preflight(time.monotonic())
    with pytest.raises(PreflightError, match=r"it does not start \(exit code 1: .*No module named svcdns.nothing\)"):
        made.result(wait_for(made), "1.x")


def test_a_program_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "svcdns.process.isolated.command", lambda _program: [sys.executable, "-c", "import signal; signal.pause()"]
    )
    made = Preflight(100.0)
    made.check_timeout(100.0 + TIMEOUT)
    assert os.waitpid(made.pid, os.WNOHANG) == (0, 0)
    made.check_timeout(100.1 + TIMEOUT)
    code = wait_for(made)
    assert code == -9
    with pytest.raises(PreflightError, match="does not start"):
        made.result(code, "1.x")
