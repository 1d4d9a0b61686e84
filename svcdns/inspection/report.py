"""The result of an inspection in the form of `svcdns check --output json`."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from svcdns.inspection.problem import Severity
from svcdns.inspection.reading import Reading

FORMAT: Final = 1
"""Raised when a field changes its meaning or goes away; new fields do not raise it."""


class Found(msgspec.Struct, frozen=True):
    """A problem. `severity` is `error`, `warning` or `note`. Lines and columns are counted from 1."""

    severity: str
    rule: str
    file: str
    line: int
    column: int
    message: str
    mend: str


class Report(msgspec.Struct, frozen=True):
    """All problems of a Corefile, in the order of their positions.

    If `starts` is False, svcdns does not start with the file. `format` is the version of the report's format.
    """

    format: int
    corefile: str
    starts: bool
    errors: int
    warnings: int
    problems: list[Found]


def report(reading: Reading) -> Report:
    """Returns the report of a reading."""
    problems = sorted(reading.problems, key=lambda one: (one.place, one.rule))
    found = [Found(str(one.severity), one.rule, *one.place, one.message, one.mend) for one in problems]
    errors = sum(one.severity is Severity.ERROR for one in problems)
    warnings = sum(one.severity is Severity.WARNING for one in problems)
    return Report(FORMAT, reading.path, all(one.starts for one in problems), errors, warnings, found)


def schema() -> dict[str, Any]:
    """Returns the JSON schema of the report."""
    return msgspec.json.schema(Report)
