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
    """The outcome of a check. `skipped` means that the cluster has no object for the check."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(eq=False)
class Failed(Exception):
    """Raised if the rule of a check does not hold.

    `query` is the query, and `dig` is a command that repeats it. `expected` and `got` describe the expected and the
    actual reply.
    """

    query: str
    expected: str
    got: str
    dig: str = ""


class Skipped(Exception):
    """Raised if the cluster has no object for a check. The text of the error names the missing object."""
