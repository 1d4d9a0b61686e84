"""The options of *health*."""

from __future__ import annotations

import pytest

from svcdns.control.info_metrics import HEALTH_DURATION
from svcdns.plugins.health import Options
from tests.support import world


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param("health", Options(("", 8080), 0.0), id="default"),
        pytest.param("health :8091", Options(("", 8091), 0.0), id="port"),
        pytest.param("health localhost:8091 {\n lameduck 5s\n}", Options(("localhost", 8091), 5.0), id="lameduck"),
        pytest.param("health :1\nhealth :2", Options(("", 2), 0.0), id="the last one counts"),
    ],
)
def test_reads(text: str, read: Options) -> None:
    assert world.options("health", text) == read


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("health 8080", "2:8 '8080' is not an address; HOST:PORT or :PORT was expected", id="no colon"),
        pytest.param("health {\n lameduck 5\n}", "3:11 '5' is not a duration", id="no unit"),
        pytest.param("health {\n lameduck -5s\n}", "3:11 '-5s' is negative", id="negative"),
        pytest.param(
            "health {\n lameduk 5s\n}", "3:2 unknown property 'lameduk' (did you mean 'lameduck'?)", id="unknown"
        ),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert world.rejection("health", text).startswith(error)


def test_buckets_are_those_of_coredns() -> None:
    """The buckets are 0.25 ms, 2.5 ms, 25 ms, 0.25 s and 2.5 s."""
    assert HEALTH_DURATION.buckets == pytest.approx((0.00025, 0.0025, 0.025, 0.25, 2.5))
