"""The problems that an inspection of a Corefile finds, with their positions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from svcdns.corefile.arguments import split_warning
from svcdns.corefile.blocks import Position
from svcdns.log_line import LogLine


class Severity(StrEnum):
    """The severity of a problem.

    - ERROR: the server does not start, or a part of the Corefile can never work.
    - WARNING: a text is ignored, or is probably not meant.
    - NOTE: svcdns and CoreDNS differ.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a Corefile.

    `rule` is the stable name of the rule that found the problem. `mend` is advice, or empty.
    """

    severity: Severity
    position: Position
    rule: str
    message: str
    mend: str = ""

    @property
    def place(self) -> tuple[str, int, int]:
        """Returns file, line and column, for sorting."""
        return self.position.file, self.position.line, self.position.column


def error(position: Position, rule: str, message: str, mend: str = "") -> Problem:
    """Returns a problem of severity ERROR."""
    return Problem(Severity.ERROR, position, rule, message, mend)


def warning(position: Position, rule: str, message: str, mend: str = "") -> Problem:
    """Returns a problem of severity WARNING."""
    return Problem(Severity.WARNING, position, rule, message, mend)


def from_log_line(line: str, rule: str, otherwise: Position) -> Problem:
    """Returns the warning for a line that a start would log: a `LogLine`, `FILE:LINE:COLUMN - TEXT`, or only a text.

    `otherwise` is the position of the warning if the line has no position.
    """
    if isinstance(line, LogLine):
        return _from_fields(line, rule, otherwise)
    position, text = split_warning(line)
    if position is None:
        return warning(otherwise, rule, text.removeprefix("Warning: "))
    return warning(position, rule, text)


def _from_fields(line: LogLine, rule: str, otherwise: Position) -> Problem:
    """Returns the warning for a line. A field may have the position: `FILE:LINE` or `FILE:LINE:COLUMN`."""
    fields = dict(line.fields)
    place, position = str(fields.pop("position", "")), otherwise
    if place:
        file, number, *column = place.rsplit(":", 2) if place.count(":") > 1 else place.rsplit(":", 1)
        position = Position(file, int(number), int(column[0]) if column else 1)
    message = f"{line.text}: {next(iter(fields.values()))}" if len(fields) == 1 else LogLine(line.text, **fields)
    return warning(position, rule, message)
