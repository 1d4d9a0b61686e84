"""The check of a new program before an upgrade in place."""

from __future__ import annotations

import subprocess
import sys

import pytest

from svcdns import __version__
from svcdns.cli import preflight
from svcdns.feed.format import handover_format


def test_prints_hand_over_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight.main() == 0
    assert capsys.readouterr().out == f"{handover_format()} {__version__}\n"


def test_imports_the_programs_of_every_process() -> None:
    """If a program cannot be imported, the check fails before the upgrade begins."""
    program = "import sys, svcdns.cli.preflight; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"svcdns.control.__main__", "svcdns.worker.__main__", "svcdns.supervisor.process"} <= set(loaded)
