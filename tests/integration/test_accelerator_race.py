"""Queries race with changes of the memory that the kernel reads. `make accelerator-soak` runs longer."""

from __future__ import annotations

import pytest

from bench.accelerator_race import race, why_unavailable

pytestmark = pytest.mark.integration

SECONDS = 3.0


def test_no_reply_is_old_mixed_or_uncounted() -> None:
    if reason := why_unavailable():
        pytest.skip(reason)
    result = race(SECONDS)
    assert (result.older, result.mixed, result.uncounted) == (0, 0, 0)
    assert result.answered > 500
    assert result.versions > 1000
