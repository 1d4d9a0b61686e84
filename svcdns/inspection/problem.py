"""What an inspection finds: problems, each with its place in a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from svcdns.corefile.blocks import Position

_PLACED: Final = re.compile(r"(?P<file>.*?):(?P<line>\d+):(?P<column>\d+) - (?P<text>.*)", re.DOTALL)


class Severity(StrEnum):
    """How bad a problem is.

    With an ERROR the server does not start, or a part of the Corefile can never work. A WARNING is for text that is
    ignored or probably not meant. A NOTE states a difference between svcdns and CoreDNS.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. `rule` is the stable name of the rule that found it, `mend` says what to do, or is empty."""

    severity: Severity
    position: Position
    rule: str
    message: str
    mend: str = ""

    @property
    def place(self) -> tuple[str, int, int]:
        """File, line and column, to sort problems by."""
        return self.position.file, self.position.line, self.position.column


def error(position: Position, rule: str, message: str, mend: str = "") -> Problem:
    """Returns a problem of severity ERROR."""
    return Problem(Severity.ERROR, position, rule, message, mend)


def warning(position: Position, rule: str, message: str, mend: str = "") -> Problem:
    """Returns a problem of severity WARNING."""
    return Problem(Severity.WARNING, position, rule, message, mend)


def from_log_line(line: str, rule: str, otherwise: Position) -> Problem:
    """Returns the warning for a line that a start would log, `FILE:LINE:COLUMN - TEXT` or only a text.

    `otherwise` is the position for a line that names none.
    """
    found = _PLACED.fullmatch(line)
    if found is None:
        return warning(otherwise, rule, line.removeprefix("Warning: "))
    position = Position(found["file"], int(found["line"]), int(found["column"]))
    return warning(position, rule, found["text"])
