"""The output of `svcdns conformance`: its progress, the results as a table, JSON or JUnit XML, and the list of
checks.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Self
from xml.etree import ElementTree

import rich.progress
from rich.console import Console
from rich.table import Table
from rich.text import Text

from svcdns.conformance.check import Check, Result
from svcdns.conformance.outcome import Outcome, Severity
from svcdns.conformance.runner import conforms

STYLES: Final = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.SKIPPED: "dim"}
FILE_WIDTH: Final = 140
"""Width of a table that is written to a file, in columns."""


class Progress:
    """Displays the progress of the checks on standard error, if that is a terminal."""

    def __init__(self, checks: Sequence[Check], *, quiet: bool = False) -> None:
        console = Console(stderr=True)
        columns = (
            rich.progress.SpinnerColumn(),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.description}"),
        )
        self._bar = rich.progress.Progress(
            *columns, console=console, transient=True, disable=quiet or not console.is_terminal
        )
        self._task = self._bar.add_task("", total=len(checks))

    def __enter__(self) -> Self:
        """Starts the display."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the display and removes it from the terminal."""
        self._bar.stop()

    def say(self, what: str) -> None:
        """Displays the present activity."""
        self._bar.update(self._task, description=what)

    def done(self, result: Result) -> None:
        """Displays that one more check has ended."""
        self._bar.update(self._task, advance=1, description=result.check.name)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=max(FILE_WIDTH, console.width))


def explain(checks: Iterable[Check]) -> None:
    """Prints each check with its severity, the rule that it tests, and a description."""
    table = Table(box=None, pad_edge=False, show_lines=False)
    for title in ("check", "severity", "rule", "what holds"):
        table.add_column(title, overflow="fold", no_wrap=title in ("check", "severity"))
    for check in checks:
        table.add_row(check.name, check.severity.value, check.rule, check.explains)
    _console().print(table)


def show(results: Sequence[Result], output: str, *, server: str, zone: str) -> None:
    """Prints the results in the format `output`: a table, JSON or JUnit XML."""
    if output == "json":
        sys.stdout.write(json.dumps(as_json(results, server, zone), indent=2) + "\n")
    elif output == "junit":
        sys.stdout.write(as_junit(results, server))
    else:
        _table(results, server, zone)


def _table(results: Sequence[Result], server: str, zone: str) -> None:
    console = _console()
    table = Table(title=Text(f"{server}, zone {zone}"), box=None, pad_edge=False, title_justify="left")
    for title in ("", "check", "severity", "rule", "note"):
        table.add_column(title, overflow="fold", no_wrap=title in ("", "check", "severity"))
    for result in results:
        style = "yellow" if _mild(result) else STYLES[result.outcome]
        table.add_row(
            Text(result.outcome.value, style),
            result.check.name,
            result.check.severity.value,
            result.check.rule,
            Text(result.note),
        )
    console.print(table)
    for result in results:
        if result.failure is not None:
            _failure(console, result)
    console.print(Text(summary(results), "bold green" if conforms(results) else "bold red"), soft_wrap=True)


def _mild(result: Result) -> bool:
    return result.outcome is Outcome.FAILED and result.check.severity is not Severity.REQUIRED


def _failure(console: Console, result: Result) -> None:
    failure, check = result.failure, result.check
    assert failure is not None
    console.print()
    console.print(
        Text(f"{check.name} ({check.severity.value}): {check.explains}", "yellow" if _mild(result) else "bold red")
    )
    for title, text in (
        ("rule", check.rule),
        ("query", failure.query),
        ("expected", failure.expected),
        ("got", failure.got),
        ("see it", failure.dig),
    ):
        for number, line in enumerate(text.splitlines()):
            console.print(Text(f"  {title if not number else '':9} {line}"), soft_wrap=True)


def summary(results: Sequence[Result]) -> str:
    """Returns one line: whether the server conforms, and the numbers of passed, failed and skipped checks."""
    count = Counter((r.check.severity, r.outcome) for r in results)
    parts = []
    for severity in Severity:
        passed, failed, skipped = (count[severity, outcome] for outcome in Outcome)
        parts.append(f"{severity.value}: {passed} passed, {failed} failed, {skipped} skipped")
    return f"{'conforms' if conforms(results) else 'DOES NOT CONFORM'} ({'; '.join(parts)})"


def as_json(results: Sequence[Result], server: str, zone: str) -> dict[str, Any]:
    """Returns the report as one JSON object."""
    checks = []
    for result in results:
        check, failure = result.check, result.failure
        item: dict[str, Any] = {
            "id": check.name,
            "group": check.group,
            "severity": check.severity.value,
            "rule": check.rule,
        }
        item |= {"explains": check.explains, "outcome": result.outcome.value, "seconds": round(result.seconds, 3)}
        if failure is not None:
            item["failure"] = {
                "query": failure.query,
                "expected": failure.expected,
                "got": failure.got,
                "see": failure.dig,
            }
        if result.note:
            item["note"] = result.note
        checks.append(item)
    return {"server": server, "zone": zone, "conforms": conforms(results), "checks": checks}


def as_junit(results: Sequence[Result], server: str) -> str:
    """Returns the report as JUnit XML.

    A failed check is a JUnit failure only if the check is required. The details of other failed checks are in
    `system-out`.
    """
    failed = sum(r.outcome is Outcome.FAILED and not _mild(r) for r in results)
    skipped = sum(r.outcome is Outcome.SKIPPED for r in results)
    counts = {"tests": str(len(results)), "failures": str(failed), "skipped": str(skipped), "errors": "0"}
    suite = ElementTree.Element("testsuite", {"name": "svcdns conformance", "hostname": server, **counts})
    for result in results:
        attributes = {
            "classname": f"conformance.{result.check.group}",
            "name": result.check.name,
            "time": f"{result.seconds:.3f}",
        }
        case = ElementTree.SubElement(suite, "testcase", attributes)
        if result.outcome is Outcome.SKIPPED:
            ElementTree.SubElement(case, "skipped", message=result.note)
        if result.failure is not None:
            failure = result.failure
            text = f"query: {failure.query}\nexpected: {failure.expected}\ngot: {failure.got}\nsee it: {failure.dig}\n"
            if _mild(result):
                ElementTree.SubElement(case, "system-out").text = f"{result.check.severity.value}, failed\n{text}"
            else:
                ElementTree.SubElement(case, "failure", message=failure.expected).text = text
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"
