"""The runner of checks: time limits, order, and the verdict."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from svcdns.conformance.check import Check, Result, Run, checker
from svcdns.conformance.client import Server
from svcdns.conformance.cluster_model import Cluster
from svcdns.conformance.errors import ConformanceError
from svcdns.conformance.examiner import Examiner
from svcdns.conformance.outcome import Failed, Outcome, Severity, Skipped
from svcdns.conformance.runner import conforms, run

EXAMINER = Examiner(Server("127.0.0.1", 1), "z.", Cluster(), random.Random(1))


def check(run_it: Run, severity: Severity = Severity.REQUIRED) -> Check:
    """Returns a check that runs this function."""
    return Check("x", "g", severity, "RFC 1 §1", "It holds.", run_it)


async def holds(_examiner: Examiner) -> None:
    """A check that passes."""


async def fails(_examiner: Examiner) -> None:
    raise Failed("q", "this", "that")


async def skips(_examiner: Examiner) -> None:
    raise Skipped("no Service")


async def api_refuses(_examiner: Examiner) -> None:
    """A check whose change the API server refuses. The result is no statement about the DNS server."""
    raise ConformanceError("API server: 403")


async def hangs(_examiner: Examiner) -> None:
    """A check that never ends."""
    await asyncio.Event().wait()


async def test_every_check_has_a_result() -> None:
    """Results are in the order of the checks. Each result is reported when its check ends."""
    reported: list[Result] = []
    results = await run(
        EXAMINER,
        map(check, (hangs, holds, fails, skips, api_refuses)),
        limit=0.05,
        on_result=reported.append,
        together=5,
    )
    outcomes = [Outcome.FAILED, Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED, Outcome.SKIPPED]
    assert [r.outcome for r in results] == outcomes
    assert len(reported) == 5
    assert results[0].failure is not None
    assert "time limit" in results[0].failure.expected
    assert (results[3].note, results[4].note) == ("no Service", "API server: 403")


async def test_the_limit_of_concurrent_checks() -> None:
    """If checks have not started when the time limit is over, they fail."""
    results = await run(EXAMINER, [check(hangs), check(hangs), check(hangs)], limit=0.02, together=1)
    assert {r.outcome for r in results} == {Outcome.FAILED}


@pytest.mark.parametrize("severity", Severity)
def test_only_required_checks_decide(severity: Severity) -> None:
    result = Result(check(fails, severity), Outcome.FAILED, 0.0, Failed("q", "this", "that"))
    assert conforms([result]) is (severity is not Severity.REQUIRED)
    assert conforms([replace(result, outcome=Outcome.SKIPPED)])


def test_names_are_unique() -> None:
    """Two checks with one name are an error."""
    into: dict[str, Check] = {}
    register = checker("g", into)
    register("a", Severity.REQUIRED, "RFC 1 §1")(holds)
    assert into["a"].explains == "A check that passes."
    with pytest.raises(ValueError, match="two checks are named a"):
        register("a", Severity.REQUIRED, "RFC 1 §1")(holds)
