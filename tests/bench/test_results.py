"""Medians, targets and the table of results."""

from __future__ import annotations

import math

import pytest

from bench.results import Row, Target, as_json, evaluate, markdown, number, table


def row(*targets: Target, **figures: list[float]) -> Row:
    return Row("hit", "CPU per answer", "µs", figures, targets)


@pytest.mark.parametrize(
    ("target", "text", "met"),
    [
        pytest.param(Target(6), "≤ 6: met", True, id="at most"),
        pytest.param(Target(4), "≤ 4: MISSED", False, id="at most, missed"),
        pytest.param(Target(5, at_least=True), "≥ 5: met", True, id="at least"),
        pytest.param(Target(1.5, "nsd"), "≤ 1.5 × nsd: 1.25 met", True, id="times a peer"),
        pytest.param(Target(1.2, "nsd"), "≤ 1.2 × nsd: 1.25 MISSED", False, id="times a peer, missed"),
        pytest.param(Target(7, "coredns", less=True), "≥ 7 × less than coredns: 8.00 met", True, id="less"),
        pytest.param(Target(9, "coredns", less=True), "≥ 9 × less than coredns: 8.00 MISSED", False, id="less, missed"),
        pytest.param(Target(1.5, "knot"), "≤ 1.5 × knot: not measured", None, id="peer not measured"),
    ],
)
def test_targets_are_compared_with_medians(target: Target, text: str, met: bool | None) -> None:
    [verdict] = evaluate(row(target, svcdns=[5, 4, 500], nsd=[4, 4, 4], coredns=[1, 40, 90]), [])
    assert (verdict.text(), verdict.met) == (text, met)


def test_a_target_may_be_relative_to_another_measure() -> None:
    one = Row("workers", "one", "µs", {"svcdns": [4.0]})
    two = Row("workers", "two", "µs", {"svcdns": [4.2]}, (Target(1.1, of="one"),))
    [verdict] = evaluate(two, [Row("growth", "one", "µs", {"svcdns": [1.0]}), one, two])
    assert verdict.text() == "≤ 1.1 × one: 1.05 met"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.01234, "0.0123"),
        (3.14159, "3.14"),
        (31.4159, "31.4"),
        (314.6, "315"),
        (31415.9, "31,416"),
        (math.nan, "-"),
        (math.inf, "inf"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_the_table_has_a_column_for_each_server() -> None:
    lines = table([row(Target(1.5, "nsd"), svcdns=[5.0], nsd=[4.0])], ["svcdns", "nsd", "knot"]).splitlines()
    assert lines[0].split() == ["scenario", "measure", "unit", "svcdns", "nsd", "knot", "target"]
    assert lines[2].split() == [
        "hit",
        "CPU",
        "per",
        "answer",
        "µs",
        "5.00",
        "4.00",
        "-",
        "≤",
        "1.5",
        "×",
        "nsd:",
        "1.25",
        "met",
    ]


def test_markdown_has_the_rows_with_targets_and_a_column_for_the_neighbour() -> None:
    one = Row("hit", "one worker", "µs", {"svcdns": [4.0], "nsd": [2.0]})
    without_target = Row("hit", "answers", "1/s", {"svcdns": [1000.0]})
    beside = Row("hit", "two, beside", "µs", {"svcdns": [6.0], "nsd": [4.0]}, (Target(1.3, "nsd"),))
    two = Row("hit", "two", "µs", {"svcdns": [5.0]}, (Target(1.3, "nsd"), Target(2, of="one worker")), beside)
    assert markdown([one, without_target, two, beside], ["svcdns", "nsd"]).splitlines() == [
        "| Scenario | Measure | svcdns | NSD | Target | svcdns beside a neighbour |",
        "| --- | --- | --- | --- | --- | --- |",
        "| hit | one worker, µs | 4.00 | 2.00 |  |  |",
        "| hit | two, µs | 5.00 | – | ≤ 1.3 × NSD: not measured; ≤ 2 × one worker: 1.25 met"
        " | 6.00, NSD 4.00; ≤ 1.3 × NSD: 1.50 **missed** |",
    ]


def test_json_has_every_round() -> None:
    """Infinity and NaN become null."""
    [found] = as_json([row(Target(1.5, "knot"), svcdns=[5.0, math.inf])])
    assert found["rounds"] == {"svcdns": [5.0, None]}
    assert found["medians"] == {"svcdns": None}
    assert found["targets"] == [{"target": "≤ 1.5 × knot", "found": None, "met": None}]
