"""The table of recovery times."""

from __future__ import annotations

import pytest

from bench.recovery import FAULTS, Measurement, options_of, table


def test_the_table_has_medians_and_maxima() -> None:
    options = options_of(["cut", "500", "--rounds", "3", "--timeout", "60"])
    figures = {
        Measurement("cut", "streamed", "svcdns"): [0.01, 0.01, 0.01],
        Measurement("cut", "plain", "svcdns"): [0.3, 0.1, 0.2],
        Measurement("500", "streamed", "svcdns"): [float("inf")],
        Measurement("500", "plain", "svcdns"): [1.0, float("inf"), 2.0],
    }
    assert table(options, ["svcdns"], figures).splitlines() == [
        "| Fault | svcdns, streamed | svcdns, plain |",
        "|---|---|---|",
        "| watches closed | 0.01 | 0.20 (0.30) |",
        "| 500 to all requests | > 60 | 2.00 (> 60) |",
    ]


def test_half_open_connections_are_measured_only_on_request() -> None:
    assert options_of([]).faults == [fault for fault in FAULTS if fault != "half-open"]
    assert options_of(["half-open"]).faults == ["half-open"]
    with pytest.raises(SystemExit):
        options_of(["nothing"])
