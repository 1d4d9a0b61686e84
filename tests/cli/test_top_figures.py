"""The figures of `svcdns top`: differences of two states."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from svcdns.cli.top_figures import Percentiles, Sample, compute, percentiles, schema
from svcdns.control.status import Latency
from tests.support.server_states import TRAFFIC, status

ROOT = Path(__file__).parents[2]


def test_rates_of_an_interval() -> None:
    """2000 queries in two seconds, of which a tenth is forwarded."""
    found = compute(Sample(10.0, status(1000)), Sample(12.0, status(3000), TRAFFIC))
    assert (found.seconds, found.queries, found.table_hits, found.cache_hits) == (2.0, 1000.0, 900.0, 50.0)
    assert (found.rcodes, found.types, found.transports) == (
        {"NOERROR": 750.0, "NXDOMAIN": 250.0}, {"A": 1000.0}, {"udp": 1000.0},
    )  # fmt: skip
    assert (found.time, found.uptime, found.traffic) == (1060.0, 60.0, TRAFFIC)
    one, down = found.upstreams
    assert (one.queries, one.failures, one.mean) == (100.0, 0.0, pytest.approx(4.0))
    assert (down.queries, down.mean, down.open_circuits, down.failed_checks) == (0.0, None, 1, 7)
    assert [process.cpu for process in found.processes] == [0.0, 1.0]
    assert found.caches[0].hits == 50.0


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(None, id="the first sample"),
        pytest.param(Sample(10.0, status(100, started_at=500.0)), id="another start"),
        pytest.param(Sample(10.0, status(5000)), id="smaller numbers"),
    ],
)
def test_no_rates_without_an_earlier_sample_of_the_same_server(before: Sample | None) -> None:
    found = compute(before, Sample(12.0, status(3000), None, "no traffic"))
    assert (found.seconds, found.queries, found.rcodes, found.latency) == (0.0, 0.0, {}, None)
    assert (found.traffic, found.traffic_error) == (None, "no traffic")


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param([100, 0, 0], Percentiles(0.5, 0.9, 0.99, 1.0), id="first bucket"),
        pytest.param([50, 50, 0], Percentiles(1.0, 8.2, 9.82, 1.0), id="two buckets"),
        pytest.param([0, 0, 100], Percentiles(10.0, 10.0, 10.0, 1.0), id="longer than all bounds"),
    ],
)
def test_percentiles_are_those_of_the_difference(counts: list[int], expected: Percentiles) -> None:
    bounds = [0.001, 0.01]
    after = Latency(bounds, [count + 1000 for count in counts], 2.1)
    found = percentiles(Latency(bounds, [1000] * 3, 2.0), after)
    assert found is not None
    assert (found.p50, found.p90, found.p99, found.mean) == pytest.approx(
        (expected.p50, expected.p90, expected.p99, expected.mean)
    )


def test_percentiles_without_queries() -> None:
    """The plugin *prometheus* may be added by a reload: then the first histogram is empty."""
    assert percentiles(Latency([], [], 0.0), Latency([], [], 0.0)) is None
    found = percentiles(Latency([], [], 0.0), Latency([0.001], [4, 0], 0.002))
    assert found is not None
    assert (found.p50, found.mean) == (0.5, 0.5)


def test_the_schema_in_the_documentation() -> None:
    assert json.loads((ROOT / "docs/schemas/top.json").read_text()) == schema()
