"""The limits that the memory bench checks."""

from __future__ import annotations

from typing import Any

import pytest

from bench.footprint import largest_peak, within_limits

GOOD: dict[str, Any] = {
    "largest peak / steady": 1.3,
    "reload / steady": 1.1,
    "limit hits": 0,
    "phases": {"upgrade": {"peak": 170.0}},
}


@pytest.mark.parametrize(
    ("change", "good"),
    [
        pytest.param({}, True, id="at the bounds"),
        pytest.param({"largest peak / steady": 1.31}, False, id="a high peak"),
        pytest.param({"reload / steady": 1.11}, False, id="an expensive reload"),
        pytest.param({"phases": {"upgrade": {"peak": 170.1}}}, False, id="above the limit"),
        pytest.param({"limit hits": 1}, False, id="the limit was reached"),
        pytest.param({"limit hits": None}, True, id="no control group"),
    ],
)
def test_peaks_are_compared_with_the_steady_state_and_the_memory_limit(change: dict[str, Any], *, good: bool) -> None:
    assert within_limits({**GOOD, **change}, 170) is good


def test_the_largest_peak_leaves_out_the_upgrade() -> None:
    """During an upgrade two processes of each kind run."""
    assert largest_peak({"start": {"peak": 80.0}, "relist": {"peak": 105.0}, "upgrade": {"peak": 147.0}}) == 105.0
