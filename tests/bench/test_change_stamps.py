"""The time of each step of a change, computed from the stamps of all processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import peers
from bench.change_stamps import STEPS, stamping


def test_medians_of_the_steps(tmp_path: Path) -> None:
    """A step is measured from the step before it. Stamps of other changes, and changes without a stamp,
    are left out.
    """
    lines = [f"{step} {10 + number}" for number, step in enumerate(STEPS, 1)]
    lines += [f"{step} {30 + 2 * number}" for number, step in enumerate(STEPS, 1)]
    lines += [f"{STEPS[0]} 50.5"]
    path = tmp_path / "stamps"
    path.write_text("\n".join(lines) + "\n")
    plain = peers.CONFIGURED["svcdns"]
    with stamping(path, on=True) as medians:
        assert peers.CONFIGURED["svcdns"] is not plain
        found = medians([(10.0, 18.0), (30.0, 46.0), (50.0, 51.0)])
    assert found == pytest.approx([1.5] * len(STEPS) + [1.5])
    assert peers.CONFIGURED["svcdns"] is plain


def test_without_stamps_svcdns_starts_as_usual(tmp_path: Path) -> None:
    """Without the option, the bench adds no functions around the steps."""
    plain = peers.CONFIGURED["svcdns"]
    with stamping(tmp_path / "stamps", on=False):
        assert peers.CONFIGURED["svcdns"] is plain
