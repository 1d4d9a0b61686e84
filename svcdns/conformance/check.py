"""The type of a check, the type of its result, and the decorator that registers checks.

A check is a coroutine function with one argument, an `Examiner`. A check raises `Failed` if its rule does not hold, and
`Skipped` if the cluster has no object for the rule.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from svcdns.conformance.examiner import Examiner
from svcdns.conformance.outcome import Failed, Outcome, Severity

SPEC: Final = "Kubernetes DNS spec 1.1.0"
E2E: Final = "Kubernetes e2e network/dns.go"


Run = Callable[[Examiner], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Check:
    """One rule, and the function that checks it.

    `rule` is the source of the rule with its section. `explains` is one sentence for users. `writes` is True if the
    check changes the cluster.
    """

    name: str
    group: str
    severity: Severity
    rule: str
    explains: str
    run: Run
    writes: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a check.

    `seconds` is the duration. `failure` is the reason if the check failed. `note` is the reason if the check was
    skipped.
    """

    check: Check
    outcome: Outcome
    seconds: float
    failure: Failed | None = None
    note: str = ""


def checker(group: str, into: dict[str, Check]) -> Callable[..., Callable[[Run], Run]]:
    """Returns the decorator that adds the checks of one module to `into`, as members of `group`.

    The docstring of a check is printed for users.
    """

    def check(name: str, severity: Severity, rule: str, *, writes: bool = False) -> Callable[[Run], Run]:
        def register(run: Run) -> Run:
            if name in into:
                raise ValueError(f"two checks are named {name}")
            into[name] = Check(name, group, severity, rule, " ".join((run.__doc__ or "").split()), run, writes)
            return run

        return register

    return check
