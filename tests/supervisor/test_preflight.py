"""The trial of a new program."""

from __future__ import annotations

import os
import sys
import time

import pytest

from svcdns import __version__
from svcdns.feed.format import handover_format
from svcdns.supervisor import preflight
from svcdns.supervisor.preflight import PATIENCE, Trial, TrialError


def ended(made: Trial) -> int:
    """Its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(made.pid, 0)[1])


def test_the_present_program_can_take_over() -> None:
    """From itself."""
    made = Trial(time.monotonic())
    assert made.result(ended(made), handover_format()) == __version__


def test_another_hand_over_is_refused() -> None:
    """Both are named."""
    made = Trial(time.monotonic())
    with pytest.raises(TrialError, match=r"its hand-over is \d+\.\w+, this program's is 0\.x: a restart is needed"):
        made.result(ended(made), "0.x")


def test_a_program_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line that it has said is the reason."""
    monkeypatch.setattr(preflight, "PROGRAM", "svcdns.nothing")
    made = Trial(time.monotonic())
    with pytest.raises(TrialError, match=r"it does not start \(exit code 1: .*No module named svcdns.nothing\)"):
        made.result(ended(made), "1.x")


def test_a_program_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed when its time is over."""
    monkeypatch.setattr("svcdns.process.isolated.command", lambda _program: [sys.executable, "-c", "import signal; signal.pause()"])
    made = Trial(100.0)
    made.look(100.0 + PATIENCE)
    assert os.waitpid(made.pid, os.WNOHANG) == (0, 0)
    made.look(100.1 + PATIENCE)
    code = ended(made)
    assert code == -9
    with pytest.raises(TrialError, match="does not start"):
        made.result(code, "1.x")
