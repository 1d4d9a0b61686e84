"""The outcome of a check, and how severe a failure is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How severe the failure of a check is.

    - `required`: the rule is a MUST of its source, or clients in Pods depend on it. Only these checks decide the exit
      code.
    - `recommended`: the rule is a SHOULD, a best current practice, or a MUST that stub resolvers do not notice.
    - `informational`: no source requires it, but clients may notice the difference.
    """

    REQUIRED = "required"
    RECOMMENDED = "recommended"
    INFORMATIONAL = "informational"


class Outcome(StrEnum):
    """The outcome of a check. `skipped` means that the cluster has no object to which the rule applies."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(eq=False)
class Failed(Exception):
    """The rule does not hold.

    `query` is the query, `expected` and `got` describe the expected and the actual reply, and `dig` is a command that
    repeats the query.
    """

    query: str
    expected: str
    got: str
    dig: str = ""


class Skipped(Exception):
    """The cluster has no object for this check. `str(error)` names the object that is missing."""
