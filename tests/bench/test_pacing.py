"""The bench's load at even intervals, and the process that empties the CPU caches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.dnsperf import BrokenError
from bench.pacing import Figures, Pace, check, why_unavailable

FOUND = Figures(100, 100, 0, 1.0, {"NOERROR": 100, "NXDOMAIN": 0}, 30.0, 40.0, 50.0, 60.0, 70.0)


@pytest.mark.parametrize(
    ("pace", "words"),
    [
        pytest.param(Pace(5000, 3), ["5000", "3", "wait"], id="waits"),
        pytest.param(Pace(20000, 0.5, "open"), ["20000", "0.5", "open"], id="does not wait"),
    ],
)
def test_the_command_line(pace: Pace, words: list[str]) -> None:
    """The command line has the port, the rate, the seconds, the mode, the file and the address."""
    assert pace.command(Path("pace"), 53, Path("queries")) == ["pace", "53", *words, "queries", "127.0.0.1"]


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        pytest.param(replace(FOUND, answered=98, codes={"NOERROR": 98}), "2 of 100 queries were lost", id="lost"),
        pytest.param(replace(FOUND, answered=0, codes={"NOERROR": 0}), "100 of 100", id="all lost"),
        pytest.param(replace(FOUND, codes={"NOERROR": 99, "SERVFAIL": 1}), "not NOERROR", id="an error"),
    ],
)
def test_wrong_figures_are_an_error(figures: Figures, reason: str) -> None:
    """Lost queries and responses other than NOERROR make a measurement invalid."""
    check(FOUND)
    with pytest.raises(BrokenError, match=reason):
        check(figures)


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a C compiler, the scenarios that need a compiler are left out. The output gives this reason."""
    monkeypatch.setenv("PATH", "")
    assert why_unavailable() == "no C compiler (cc) in PATH"
