"""What was measured: rows of a figure for each server, the targets that svcdns is held to, and both as a table.

A row keeps every round; what is shown, and compared, is the median.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

OURS = "svcdns"


@dataclass(frozen=True)
class Target:
    """What svcdns's figure may be: at most `value`, or `value` times a base.

    The base is a peer's figure, or, with `of`, svcdns's own of another measure of the scenario. `at_least` turns it round; `less`
    says that svcdns must be at least `value` times below the base.
    """

    value: float
    peer: str = ""
    at_least: bool = False
    less: bool = False
    of: str = ""

    @property
    def base(self) -> str:
        """What it compares with; empty where it is absolute."""
        return self.peer or self.of

    def text(self) -> str:
        """As it stands in the table."""
        sign = "≥" if self.at_least or self.less else "≤"
        return f"{sign} {self.value:g}{' ×' if self.base else ''}{' less than' if self.less else ''} {self.base}".rstrip()


@dataclass
class Row:
    """One measure of one scenario: figures of each round by server."""

    scenario: str
    measure: str
    unit: str
    figures: dict[str, list[float]] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()

    def add(self, server: str, figure: float) -> None:
        """One round's figure."""
        self.figures.setdefault(server, []).append(figure)

    def median(self, server: str) -> float:
        """The figure that stands for all rounds; NaN where there is none."""
        return statistics.median(self.figures[server]) if self.figures.get(server) else math.nan


@dataclass(frozen=True)
class Verdict:
    """How a target was kept: `found` is the figure, or the ratio, that it is about; `met` is None where it could not be judged."""

    target: Target
    found: float
    met: bool | None

    def text(self) -> str:
        """As it stands in the table."""
        if self.met is None:
            return f"{self.target.text()}: not measured"
        ratio = f"{number(self.found)} " if self.target.base else ""
        return f"{self.target.text()}: {ratio}{'met' if self.met else 'MISSED'}"


def judge(row: Row, rows: Iterable[Row]) -> list[Verdict]:
    """Holds a row to its targets; the other rows are those that a target may speak of."""
    ours = row.median(OURS)
    verdicts = []
    for target in row.targets:
        base = 1.0
        if target.peer:
            base = row.median(target.peer)
        elif target.of:
            base = next((one.median(OURS) for one in rows if one.scenario == row.scenario and one.measure == target.of), math.nan)
        found = base / ours if target.less else ours / base
        known = not math.isnan(found)
        met = found >= target.value if target.at_least or target.less else found <= target.value
        verdicts.append(Verdict(target, found, met if known else None))
    return verdicts


def number(value: float) -> str:
    """Three digits that matter; a dash for what was not measured."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf"
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def table(rows: list[Row], servers: list[str]) -> str:
    """All rows, a column a server, targets at the end."""
    lines = [["scenario", "measure", "unit", *servers, "target"]]
    for row in rows:
        verdicts = "; ".join(verdict.text() for verdict in judge(row, rows))
        lines.append([row.scenario, row.measure, row.unit, *(number(row.median(server)) for server in servers), verdicts])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    right = range(3, 3 + len(servers))
    shown = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in [shown[0], "  ".join("-" * width for width in widths), *shown[1:]])


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Rows with their rounds, medians and verdicts."""
    return [
        {
            "scenario": row.scenario,
            "measure": row.measure,
            "unit": row.unit,
            "rounds": {server: [_finite(figure) for figure in figures] for server, figures in row.figures.items()},
            "medians": {server: _finite(row.median(server)) for server in row.figures},
            "targets": [{"target": one.target.text(), "found": _finite(one.found), "met": one.met} for one in judge(row, rows)],
        }
        for row in rows
    ]


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
