"""Charts of a bench run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.plot import Chart, Point, charts, draw, main

SVG = "{http://www.w3.org/2000/svg}"


def row(scenario: str, measure: str, **rounds: list[float | None]) -> dict[str, Any]:
    """Returns a row of a report. Its median is the middle value of the list."""
    return {
        "scenario": scenario,
        "measure": measure,
        "rounds": rounds,
        "medians": {name: found[len(found) // 2] for name, found in rounds.items()},
    }


REPORT = {
    "services": 10_000,
    "rounds": 3,
    "seconds": 5,
    "machine": {"cpu": "A & B", "cores": 2, "kernel": "6.1", "commit": "abc"},
    "rows": [
        row("latency", "plain, p50", svcdns=[0.04, 0.05, 0.06], nsd=[0.03, 0.03, 0.03]),
        row("latency", "plain, p99", svcdns=[0.4, 0.5, 0.6], nsd=[0.2, 0.3, 0.4]),
        row("growth", "CPU per answer, 100", svcdns=[4.0, 4.1, 4.2]),
        row("growth", "CPU per answer, 100,000", svcdns=[4.1, 4.2, 4.3], coredns=[None]),
        row("hit", "CPU per answer", svcdns=[4.0]),
    ],
}


def test_points_of_a_chart() -> None:
    """A point is the median, with the range of its rounds. A missing measurement has no point."""
    found = charts(REPORT)
    assert set(found) == {"latency-plain", "growth"}
    assert found["latency-plain"].series["svcdns"] == [Point(0.0, 0.05, 0.04, 0.06), Point(1.0, 0.5, 0.4, 0.6)]
    assert found["growth"].series == {"svcdns": [Point(2.0, 4.1, 4.0, 4.2), Point(5.0, 4.2, 4.1, 4.3)]}
    assert [label for _, label in found["growth"].ticks] == ["100", "100,000"]


@pytest.mark.parametrize("name", ["latency-plain", "growth"])
def test_the_svg_has_labels_and_all_points(name: str) -> None:
    chart = charts(REPORT)[name]
    picture = ElementTree.fromstring(draw(chart))
    words = [one.text for one in picture.iter(f"{SVG}text")]
    assert {chart.title, chart.x_label, chart.y_label, chart.note, *chart.series} <= set(words)
    _, _, width, height = map(float, picture.attrib["viewBox"].split())
    points = [(float(one.attrib["cx"]), float(one.attrib["cy"])) for one in picture.iter(f"{SVG}circle")]
    assert len(points) == sum(map(len, chart.series.values()))
    assert all(0 < x < width and 0 < y < height for x, y in points)
    assert points[1][1] < points[0][1]


def test_a_linear_axis_begins_at_zero() -> None:
    chart = Chart("t", "x", "y", [(0, "a"), (1, "b")], {"svcdns": [Point(0, 4.0, 4.0, 4.0), Point(1, 4.2, 4.2, 4.2)]})
    assert "0" in [one.text for one in ElementTree.fromstring(draw(chart)).iter(f"{SVG}text")]


def test_files_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(REPORT))
    assert main([str(file), "--to", str(tmp_path / "charts")]) == 0
    assert sorted(path.name for path in (tmp_path / "charts").iterdir()) == ["growth.svg", "latency-plain.svg"]
    assert "growth.svg" in capsys.readouterr().out
    file.write_text(json.dumps(REPORT | {"rows": []}))
    assert main([str(file)]) == 1
