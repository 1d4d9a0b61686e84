"""Estimates of a server's memory from the size of the cluster."""

from __future__ import annotations

import pytest

from svcdns.inspection.size import SizeError, estimate, parse


def test_numbers_are_read() -> None:
    assert parse("services=10, endpoints=20") == {"services": 10, "endpoints": 20}


@pytest.mark.parametrize("text", ["", "services", "services=x", "endpoints=3", "services=1;endpoints=2"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(SizeError, match="--size"):
        parse(text)


@pytest.mark.parametrize(
    ("services", "endpoints", "measured"), [(10_000, 10_000, 91.2), (10_000, 100_000, 101), (1_000, 1_000, 65.6)]
)
def test_estimates_are_near_the_measured_figures(services: int, endpoints: int, measured: float) -> None:
    found = estimate(services, endpoints)
    assert found.expected / (1 << 20) == pytest.approx(measured, rel=0.05)
    assert found.limit > found.expected


def test_a_worker_more_needs_more() -> None:
    assert estimate(1000, 1000, 2).expected > estimate(1000, 1000).expected
