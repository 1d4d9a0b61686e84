"""Converting log lines to reported problems."""

from __future__ import annotations

import pytest

from svcdns.corefile.blocks import Position
from svcdns.inspection.problem import Severity, from_log_line

START = Position("Corefile", 1, 1)


@pytest.mark.parametrize(
    ("line", "position", "message"),
    [
        ("a/b:3:7 - text - more", Position("a/b", 3, 7), "text - more"),
        ("No files matching", START, "No files matching"),
        ('Warning: Domain "a_b." is odd', START, 'Domain "a_b." is odd'),
    ],
)
def test_the_position_is_taken_from_the_line(line: str, position: Position, message: str) -> None:
    problem = from_log_line(line, "rule", START)
    assert (problem.severity, problem.position, problem.message) == (Severity.WARNING, position, message)
