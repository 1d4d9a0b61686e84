"""How a check ends, and how much a failure weighs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """`required`: a MUST of its source, or what clients in Pods rest on; it decides the exit code. `recommended`: a SHOULD, a best current
    practice, or a MUST that stub resolvers do not notice. `informational`: no rule, but clients may meet the difference."""

    REQUIRED = "required"
    RECOMMENDED = "recommended"
    INFORMATIONAL = "informational"


class Outcome(StrEnum):
    """How a check ended. `skipped`: nothing to try it on."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(eq=False)
class Failed(Exception):
    """The rule does not hold: the query, the expected reply, the reply that came, and the `dig` line that shows it."""

    query: str
    expected: str
    got: str
    dig: str = ""


class Skipped(Exception):
    """There is nothing to try the rule on; the text says what is missing."""
