"""The bench of the mirror's costs runs."""

from __future__ import annotations

from bench.mirror_costs import measure


def test_every_step_is_measured() -> None:
    found = measure(20, 1)
    assert len(found) == 8
    assert min(found.values()) >= 0
