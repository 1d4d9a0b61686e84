"""The problems that an inspection of a Corefile finds, with their positions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from svcdns.corefile.arguments import split_warning
from svcdns.corefile.blocks import Position
from svcdns.log_line import LogLine, shown


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

    `rule` is the stable name of the rule that found the problem. `mend` is advice, or empty. If `starts` is False, the
    server does not start with this problem.
    """

    severity: Severity
    position: Position
    rule: str
    message: str
    mend: str = ""
    starts: bool = True

    @property
    def place(self) -> tuple[str, int, int]:
        """Returns file, line and column, for sorting."""
        return self.position.file, self.position.line, self.position.column


def error(position: Position, rule: str, message: str, mend: str = "", *, starts: bool = False) -> Problem:
    """Returns a problem of severity ERROR. With `starts`, the server starts, but a part of the Corefile cannot work."""
    return Problem(Severity.ERROR, position, rule, message, mend, starts)


def warning(position: Position, rule: str, message: str, mend: str = "") -> Problem:
    """Returns a problem of severity WARNING."""
    return Problem(Severity.WARNING, position, rule, message, mend)


def note(position: Position, rule: str, message: str, mend: str = "") -> Problem:
    """Returns a problem of severity NOTE."""
    return Problem(Severity.NOTE, position, rule, message, mend)


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
    return warning(position, rule, _sentence(line.text, fields))


def _sentence(text: str, fields: dict[str, object]) -> str:
    """Returns the text and the fields of a log line as a sentence. The error is first, without its key."""
    if len(fields) == 1:
        return f"{text}: {next(iter(fields.values()))}"
    if "error" not in fields:
        return LogLine(text, **fields)
    others = ", ".join(f"{key.replace('_', ' ')} {shown(value)}" for key, value in fields.items() if key != "error")
    return f"{text}: {fields['error']} ({others})"
