"""What a supervisor sees of the program that is to take its place."""

from __future__ import annotations

import pytest

from svcdns import __version__
from svcdns.cli import preflight
from svcdns.feed.format import handover_format


def test_prints_hand_over_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    """On one line."""
    assert preflight.main() == 0
    assert capsys.readouterr().out == f"{handover_format()} {__version__}\n"
