"""What a check is, how it says no, and the list of all of them.

A check is a coroutine function that takes an `Examiner` and returns if the rule holds; it raises `Failed` if not and `Skipped` where
the cluster has nothing to try the rule on. `check` puts it in the list; the list is in the order in which checks are written down.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from svcdns.conformance.examiner import Examiner

SPEC: Final = "Kubernetes DNS spec 1.1.0"
E2E: Final = "Kubernetes e2e network/dns.go"


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


Run = Callable[["Examiner"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Check:
    """One rule. `rule` is its source with the section, `explains` one sentence for people, `writes` whether it changes the cluster."""

    name: str
    group: str
    severity: Severity
    rule: str
    explains: str
    run: Run
    writes: bool = False


@dataclass(eq=False)
class Failed(Exception):
    """The rule does not hold: the question, what was expected, what came, and the line that shows it."""

    question: str
    expected: str
    got: str
    dig: str = ""


class Skipped(Exception):
    """There is nothing to try the rule on; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a check ended; `failure` where it failed, `note` where it was skipped or has something to tell; `seconds` it took."""

    check: Check
    outcome: Outcome
    seconds: float
    failure: Failed | None = None
    note: str = ""


def checker(group: str, into: dict[str, Check]) -> Callable[..., Callable[[Run], Run]]:
    """The decorator by which a module puts its checks in `into`, as members of `group`. A check's docstring is what people are told."""

    def check(name: str, severity: Severity, rule: str, *, writes: bool = False) -> Callable[[Run], Run]:
        def register(run: Run) -> Run:
            if name in into:
                raise ValueError(f"two checks are named {name}")
            into[name] = Check(name, group, severity, rule, " ".join((run.__doc__ or "").split()), run, writes)
            return run

        return register

    return check
