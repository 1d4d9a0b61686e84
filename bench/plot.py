"""Draws charts of latency and of growth: `python -m bench.plot run.json --to docs/charts` writes them as SVG files.

The input is the JSON file of `python -m bench`. A point is the median of the rounds. A vertical bar shows their minimum
and maximum. A logarithmic axis has `(logarithmic)` in its label. All other y axes begin at 0.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 80, 150, 56, 74
COLOURS = {
    "svcdns": "#0b6bcb",
    "nsd": "#2e7d32",
    "knot": "#b26a00",
    "unbound": "#7b1fa2",
    "dnsmasq": "#6d4c41",
    "coredns": "#c62828",
}
DARK = {"#fff": "#14181d", "#ddd": "#3a4149", "#222": "#e6edf3"} | {
    "#0b6bcb": "#69aef5", "#2e7d32": "#66c06b", "#b26a00": "#e0a24a", "#7b1fa2": "#c98be0", "#6d4c41": "#bfa094",
    "#c62828": "#f07a7a", "#555": "#b0b8c0",
}  # fmt: skip
"""The colours of a chart for readers who prefer dark colours."""


@dataclass(frozen=True)
class Point:
    """One point of a series: the position on the x axis, and the median, minimum and maximum of the rounds."""

    x: float
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Chart:
    """A line chart with one series of points for each server.

    `ticks` has positions on the x axis with their labels. If `log` is true, the y axis is logarithmic.
    """

    title: str
    x_label: str
    y_label: str
    ticks: Sequence[tuple[float, str]]
    series: dict[str, list[Point]]
    log: bool = False
    note: str = ""


def charts(report: dict[str, Any]) -> dict[str, Chart]:
    """Returns the charts for which the report has figures, by file name without its suffix."""
    note = _note(report)
    found = {}
    for state, words in (
        ("plain", "undisturbed"),
        ("changes", "while 200 endpoints a second change"),
        ("relist", f"while {report['services'] * 10:,} endpoints are listed"),
    ):
        rows = [row for row in _rows(report, "latency") if row["measure"].startswith(f"{state}, p")]
        positions = [(float(k), row["measure"].partition(", ")[2]) for k, row in enumerate(rows)]
        series = _series([(float(k), row) for k, row in enumerate(rows)])
        title = f"Latency at 5,000 queries a second, {words}"
        found[f"latency-{state}"] = Chart(
            title, "percentile", "milliseconds (logarithmic)", positions, series, log=True, note=note
        )
    sizes = [(row, re.search(r"([\d,]+)$", row["measure"])) for row in _rows(report, "growth")]
    placed = [(math.log10(int(size[1].replace(",", ""))), row, size[1]) for row, size in sizes if size]
    ticks = [(x, label) for x, _, label in placed]
    growth = _series([(x, row) for x, row, _ in placed])
    found["growth"] = Chart(
        "CPU per answer by size of the cluster", "Services (logarithmic)", "microseconds", ticks, growth, note=note
    )
    return {name: chart for name, chart in found.items() if chart.series}


def _rows(report: dict[str, Any], scenario: str) -> list[dict[str, Any]]:
    return [row for row in report["rows"] if row["scenario"] == scenario]


def _series(rows: Sequence[tuple[float, dict[str, Any]]]) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    for x, row in rows:
        for server, median in row["medians"].items():
            rounds = [figure for figure in row["rounds"][server] if figure is not None]
            if median is not None:
                found.setdefault(server, []).append(Point(x, median, min(rounds), max(rounds)))
    return found


def _note(report: dict[str, Any]) -> str:
    machine = report["machine"]
    rounds = f"{report['rounds']} round{'s' * (report['rounds'] != 1)} of {report['seconds']} s"
    where = f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}"
    return f"{where}; commit {machine['commit']}; {rounds}; bars: range of the rounds"


# -- drawing


def draw(chart: Chart) -> str:
    """Returns the chart as SVG text."""
    heights = _y_ticks(chart)
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" fill="#222">',
        dark_style(DARK),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _text(LEFT, 26, chart.title, size=15),
        _text(LEFT, HEIGHT - 10, chart.note, size=9),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 32, chart.x_label, anchor="middle"),
        f'<g transform="rotate(-90 20 {middle})">{_text(20, middle, chart.y_label, anchor="middle")}</g>',
    ]
    for value in heights:
        y = _y(chart, heights, value)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, "#ddd"))
        parts.append(_text(LEFT - 8, y + 4, f"{value:g}", anchor="end"))
    for position, label in chart.ticks:
        parts.append(_text(_x(chart, position), HEIGHT - BOTTOM + 18, label, anchor="middle"))
    parts.append(_line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "#222"))
    for number, (server, points) in enumerate(chart.series.items()):
        parts += _drawn(chart, heights, COLOURS.get(server, "#555"), points)
        parts.append(
            _line(
                WIDTH - RIGHT + 16,
                TOP + 18 * number,
                WIDTH - RIGHT + 36,
                TOP + 18 * number,
                COLOURS.get(server, "#555"),
                2.5,
            )
        )
        parts.append(_text(WIDTH - RIGHT + 42, TOP + 18 * number + 4, server))
    return "\n".join([*parts, "</svg>"]) + "\n"


def dark_style(colours: dict[str, str]) -> str:
    """Returns a style element that replaces colours for readers who prefer dark colours."""
    rules = [f'[fill="{old}"]{{fill:{new}}}[stroke="{old}"]{{stroke:{new}}}' for old, new in colours.items()]
    return f"<style>@media (prefers-color-scheme:dark){{{''.join(rules)}}}</style>"


def _drawn(chart: Chart, heights: list[float], colour: str, points: list[Point]) -> list[str]:
    path = " ".join(f"{_x(chart, one.x):.1f},{_y(chart, heights, one.median):.1f}" for one in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for one in points:
        x = _x(chart, one.x)
        parts.append(_line(x, _y(chart, heights, one.low), x, _y(chart, heights, one.high), colour))
        parts.append(f'<circle cx="{x:.1f}" cy="{_y(chart, heights, one.median):.1f}" r="3.5" fill="{colour}"/>')
    return parts


def _y_ticks(chart: Chart) -> list[float]:
    """Returns the values at which the y axis has ticks.

    A linear axis has ticks from 0 at equal, round steps. A logarithmic axis has ticks at 1, 2 and 5 times powers of
    ten.
    """
    values = [value for points in chart.series.values() for one in points for value in (one.low, one.high)]
    if not chart.log:
        top = max(values)
        step = 10.0 ** math.floor(math.log10(top / 2))
        step = next(step * factor for factor in (1, 2, 5, 10) if step * factor * 6 >= top)
        return [k * step for k in range(math.ceil(top / step) + 1)]
    marks = [factor * 10.0**power for power in range(-6, 6) for factor in (1, 2, 5)]
    low = max(mark for mark in marks if mark <= max(min(values), marks[0]))
    high = min((mark for mark in marks if mark >= max(values)), default=marks[-1])
    return [mark for mark in marks if low <= mark <= max(high, 2 * low)]


def _x(chart: Chart, position: float) -> float:
    first, last = chart.ticks[0][0], chart.ticks[-1][0]
    share = (position - first) / (last - first) if last > first else 0.5
    return LEFT + 30 + share * (WIDTH - RIGHT - LEFT - 60)


def _y(chart: Chart, heights: list[float], value: float) -> float:
    low, high = heights[0], heights[-1]
    share = math.log(max(value, low) / low) / math.log(high / low) if chart.log else (value - low) / (high - low)
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.0) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'


def main(arguments: list[str] | None = None) -> int:
    """Draws the charts of a report, and writes them to SVG files. Returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m bench.plot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="output of `python -m bench --json FILE`")
    parser.add_argument(
        "--to", type=Path, default=Path(), metavar="FOLDER", help="folder of the charts (default: the current one)"
    )
    options = parser.parse_args(arguments)
    found = charts(json.loads(options.file.read_text()))
    if not found:
        print(f"bench.plot: {options.file} has no rows of latency or growth", file=sys.stderr)
        return 1
    options.to.mkdir(parents=True, exist_ok=True)
    for name, chart in found.items():
        path = options.to / f"{name}.svg"
        path.write_text(draw(chart))
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
