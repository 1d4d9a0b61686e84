"""The problems that an inspection of a Corefile finds, with their positions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from svcdns.corefile.blocks import Position

_PLACED: Final = re.compile(r"(?P<file>.*?):(?P<line>\d+):(?P<column>\d+) - (?P<text>.*)", re.DOTALL)


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
    """Returns the warning for a line that a start would log: `FILE:LINE:COLUMN - TEXT`, or only a text.

    `otherwise` is the position if the line has none.
    """
    found = _PLACED.fullmatch(line)
    if found is None:
        return warning(otherwise, rule, line.removeprefix("Warning: "))
    position = Position(found["file"], int(found["line"]), int(found["column"]))
    return warning(position, rule, found["text"])
