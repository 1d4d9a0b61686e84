"""The outcome of a check, and the severity of a failure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """`required`: a MUST of its source, or what clients in Pods depend on; it decides the exit code. `recommended`: a
    SHOULD, a best current practice, or a MUST that stub resolvers do not notice. `informational`: no rule, but
    clients may meet the difference.
    """

    REQUIRED = "required"
    RECOMMENDED = "recommended"
    INFORMATIONAL = "informational"


class Outcome(StrEnum):
    """The outcome of a check. `skipped`: the cluster has no object for it."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(eq=False)
class Failed(Exception):
    """The rule does not hold: the query, the expected reply, the actual reply, and the `dig` command that shows it."""

    query: str
    expected: str
    got: str
    dig: str = ""


class Skipped(Exception):
    """The cluster has no object for this check; the text names what is missing."""
