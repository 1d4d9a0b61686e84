"""The table of recovery times."""

from __future__ import annotations

import pytest

from bench.recovery import FAULTS, Figure, options_of, table


def test_the_table_has_medians_and_the_worst() -> None:
    """And says where an answer was not waited for any longer."""
    options = options_of(["cut", "500", "--rounds", "3", "--patience", "60"])
    figures = {
        Figure("cut", "streamed", "svcdns"): [0.01, 0.01, 0.01],
        Figure("cut", "plain", "svcdns"): [0.3, 0.1, 0.2],
        Figure("500", "streamed", "svcdns"): [float("inf")],
        Figure("500", "plain", "svcdns"): [1.0, float("inf"), 2.0],
    }
    assert table(options, ["svcdns"], figures).splitlines() == [
        "| Fault | svcdns, streamed | svcdns, plain |",
        "|---|---|---|",
        "| watches cut | 0.01 | 0.20 (0.30) |",
        "| 500 to all requests | > 60 | 2.00 (> 60) |",
    ]


def test_what_takes_minutes_is_measured_only_where_it_is_named() -> None:
    """Half-open connections; and what is not there is an error."""
    assert options_of([]).faults == [fault for fault in FAULTS if fault != "half-open"]
    assert options_of(["half-open"]).faults == ["half-open"]
    with pytest.raises(SystemExit):
        options_of(["nothing"])
