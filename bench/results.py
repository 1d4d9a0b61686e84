"""The results of a run: a table with one row for each measured quantity, and the targets that svcdns must meet.

A row has the results of all rounds for each server. Table and targets use their median.
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
    """A limit for a result of svcdns: at most `value`, or at most `value` times another result.

    The other result is that of the server `peer` in the same row, or that of svcdns in the row `of`. If `at_least` is
    true, the limit is a minimum. If `less` is true, the peer's result must be at least `value` times that of svcdns.
    """

    value: float
    peer: str = ""
    at_least: bool = False
    less: bool = False
    of: str = ""

    @property
    def base(self) -> str:
        """Returns the name of the server, or of the row of the table, with which svcdns's result is compared.

        Returns an empty text for an absolute limit.
        """
        return self.peer or self.of

    def text(self) -> str:
        """Returns the limit as text for the table, such as `≤ 1.5 × nsd`."""
        sign = "≥" if self.at_least or self.less else "≤"
        return (
            f"{sign} {self.value:g}{' ×' if self.base else ''}{' less than' if self.less else ''} {self.base}".rstrip()
        )


@dataclass
class Row:
    """One row of the results table: a quantity that a scenario measures, such as CPU per answer.

    `figures` has the results of all rounds for each server. `targets` has the limits for svcdns.
    """

    scenario: str
    measure: str
    unit: str
    figures: dict[str, list[float]] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    beside_neighbour: Row | None = None
    """The row with the same quantity, measured beside a process that empties the CPU caches."""

    def add(self, server: str, figure: float) -> None:
        """Adds the result of a server in one round of the scenario."""
        self.figures.setdefault(server, []).append(figure)

    def median(self, server: str) -> float:
        """Returns the median of a server's results over all rounds, or NaN if the server has no results."""
        return statistics.median(self.figures[server]) if self.figures.get(server) else math.nan


@dataclass(frozen=True)
class Verdict:
    """The result of comparing svcdns's figure with a `Target`.

    `found` is svcdns's figure, or its ratio to the figure that the target names. `met` is None if a figure is missing.
    """

    target: Target
    found: float
    met: bool | None

    def text(self) -> str:
        """Returns the target and the result as text for the table, such as `≤ 1.5 × nsd: 1.32 met`."""
        if self.met is None:
            return f"{self.target.text()}: not measured"
        ratio = f"{number(self.found)} " if self.target.base else ""
        return f"{self.target.text()}: {ratio}{'met' if self.met else 'MISSED'}"


def evaluate(row: Row, rows: Iterable[Row]) -> list[Verdict]:
    """Returns one verdict for each target of `row`, from the median of svcdns.

    A target may name another row of the same scenario, which is looked up in `rows`.
    """
    ours = row.median(OURS)
    verdicts = []
    for target in row.targets:
        base = 1.0
        if target.peer:
            base = row.median(target.peer)
        elif target.of:
            base = next(
                (one.median(OURS) for one in rows if one.scenario == row.scenario and one.measure == target.of),
                math.nan,
            )
        found = base / ours if target.less else ours / base
        known = not math.isnan(found)
        met = found >= target.value if target.at_least or target.less else found <= target.value
        verdicts.append(Verdict(target, found, met if known else None))
    return verdicts


def number(value: float) -> str:
    """Returns a number as text with three significant digits, or a dash for NaN."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf"
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def table(rows: list[Row], servers: list[str]) -> str:
    """Returns the results as a text table. Each server has a column, and the last column has the targets of svcdns."""
    lines = [["scenario", "measure", "unit", *servers, "target"]]
    for row in rows:
        verdicts = "; ".join(verdict.text() for verdict in evaluate(row, rows))
        lines.append(
            [row.scenario, row.measure, row.unit, *(number(row.median(server)) for server in servers), verdicts]
        )
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


NAMES = {"nsd": "NSD", "knot": "Knot", "unbound": "Unbound", "coredns": "CoreDNS"}
"""The names of servers in text."""


def markdown(rows: list[Row], servers: list[str]) -> str:
    """Returns the results as a table in Markdown: the rows with targets, and the rows that these targets name.

    A row that was measured beside a neighbour is a column in the row of the undisturbed measurement.
    """
    neighbours = [row.beside_neighbour for row in rows if row.beside_neighbour is not None]
    needed = {(row.scenario, target.of) for row in rows for target in row.targets}
    shown = [
        row
        for row in rows
        if not any(row is one for one in neighbours) and (row.targets or (row.scenario, row.measure) in needed)
    ]
    names = [NAMES.get(server, server) for server in servers]
    lines = [["Scenario", "Measure", *names, "Target", f"{OURS} beside a neighbour"]]
    lines.append(["---"] * len(lines[0]))
    for row in shown:
        beside = row.beside_neighbour
        lines.append(
            [
                row.scenario,
                f"{row.measure}, {row.unit}" if row.unit else row.measure,
                *(number(row.median(server)).replace("-", "–") for server in servers),
                _verdicts(row, rows),
                _beside(beside, servers, rows) if beside is not None else "",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _beside(row: Row, servers: list[str], rows: list[Row]) -> str:
    """Returns the figures of svcdns and of the next server, and the verdicts, as one cell of the table."""
    figures = [
        f"{NAMES.get(server, server)} {number(row.median(server))}" for server in servers if server in row.figures
    ]
    return "; ".join(filter(None, [", ".join(figures[:2]).removeprefix(f"{OURS} "), _verdicts(row, rows)]))


def _verdicts(row: Row, rows: list[Row]) -> str:
    text = "; ".join(verdict.text() for verdict in evaluate(row, rows)).replace("MISSED", "**missed**")
    for server, name in NAMES.items():
        text = text.replace(f" {server}:", f" {name}:")
    return text


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Returns the table for the JSON file.

    A row has the results of all rounds, their medians, and whether each target is met.
    """
    return [
        {
            "scenario": row.scenario,
            "measure": row.measure,
            "unit": row.unit,
            "rounds": {server: [_finite(figure) for figure in figures] for server, figures in row.figures.items()},
            "medians": {server: _finite(row.median(server)) for server in row.figures},
            "targets": [
                {"target": one.target.text(), "found": _finite(one.found), "met": one.met}
                for one in evaluate(row, rows)
            ],
        }
        for row in rows
    ]


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
