"""The bench of starts without an API server, on a small cluster."""

from __future__ import annotations

import os

import pytest

from bench import snapshot


@pytest.mark.slow
def test_the_table_has_a_row_for_each_choice_of_cores(capsys: pytest.CaptureFixture[str]) -> None:
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
    assert snapshot.main(["--services", "20", "--endpoints", "2", "--rounds", "1", "--cores", cores]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| on ")]
    assert rows
    assert all(len(row) == 1 + len(snapshot.COLUMNS) for row in rows)
