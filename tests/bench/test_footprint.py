"""How the bench of memory judges its figures."""

from __future__ import annotations

from typing import Any

import pytest

from bench.footprint import highest, judged

GOOD: dict[str, Any] = {"largest peak by steady": 1.3, "reload by steady": 1.1, "limit met": 0, "parts": {"upgrade": {"peak": 170.0}}}


@pytest.mark.parametrize(
    ("change", "good"),
    [
        pytest.param({}, True, id="at the bounds"),
        pytest.param({"largest peak by steady": 1.31}, False, id="a high peak"),
        pytest.param({"reload by steady": 1.11}, False, id="a dear reload"),
        pytest.param({"parts": {"upgrade": {"peak": 170.1}}}, False, id="above the limit"),
        pytest.param({"limit met": 1}, False, id="the group was full"),
        pytest.param({"limit met": None}, True, id="no group could be made"),
    ],
)
def test_what_is_promised(change: dict[str, Any], *, good: bool) -> None:
    """Peaks as parts of the steady state, and the limit."""
    assert judged({**GOOD, **change}, 170) is good


def test_the_upgrade_is_no_peak() -> None:
    """It has two of one process at a time, and only the limit to keep to."""
    assert highest({"start": {"peak": 80.0}, "relist": {"peak": 105.0}, "upgrade": {"peak": 147.0}}) == 105.0
