"""The preflight check of an upgrade in place."""

from __future__ import annotations

import subprocess
import sys

import pytest

from svcdns import __version__
from svcdns.cli import preflight
from svcdns.feed.format import handover_format


def test_prints_hand_over_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The preflight check prints the hand-over format and the version in one line."""
    assert preflight.main() == 0
    assert capsys.readouterr().out == f"{handover_format()} {__version__}\n"


def test_loads_what_every_process_runs() -> None:
    """A program whose control, worker or supervisor cannot be imported fails this check, not the upgrade."""
    program = "import sys, svcdns.cli.preflight; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"svcdns.control.__main__", "svcdns.worker.__main__", "svcdns.supervisor.process"} <= set(loaded)
