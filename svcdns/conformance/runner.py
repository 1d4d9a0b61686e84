"""Runs checks, several at the same time.

Each check and the whole run have a time limit. Every check ends with a result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from svcdns.conformance.check import Check, Result
from svcdns.conformance.errors import ConformanceError
from svcdns.conformance.examiner import Examiner
from svcdns.conformance.outcome import Failed, Outcome, Severity, Skipped

TOGETHER: Final = 8
"""The number of checks that run at the same time."""
LONGEST: Final = 90.0
"""The time limit of one check, in seconds."""

Tell = Callable[[Result], None]


async def run(
    examiner: Examiner,
    checks: Iterable[Check],
    *,
    limit: float,
    on_result: Tell = lambda _: None,
    together: int = TOGETHER,
) -> list[Result]:
    """Runs the checks, and returns their results in the order of the checks.

    `limit` is the number of seconds for the whole run. A check that has not ended by then has failed. `on_result` is
    called with each result when its check ends. `together` checks run at the same time.
    """
    end = asyncio.get_running_loop().time() + limit
    gate = asyncio.Semaphore(together)

    async def one(check: Check) -> Result:
        async with gate:
            result = await _one(examiner, check, end)
        on_result(result)
        return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(check)) for check in checks]
    return [task.result() for task in tasks]


async def _one(examiner: Examiner, check: Check, end: float) -> Result:
    clock = asyncio.get_running_loop().time
    began = clock()
    try:
        async with asyncio.timeout(max(0.0, min(LONGEST, end - began))):
            await check.run(examiner)
    except Failed as failure:
        return Result(check, Outcome.FAILED, clock() - began, failure)
    except Skipped as skipped:
        return Result(check, Outcome.SKIPPED, clock() - began, note=str(skipped))
    except TimeoutError:
        late = Failed(
            "(all queries of this check)", "an end within the time limit", f"none after {clock() - began:.1f} s"
        )
        return Result(check, Outcome.FAILED, clock() - began, late)
    except ConformanceError as error:  # an error of the API server, not of the server under test
        return Result(check, Outcome.SKIPPED, clock() - began, note=str(error))
    return Result(check, Outcome.PASSED, clock() - began)


def conforms(results: Iterable[Result]) -> bool:
    """Returns True if no required check failed."""
    return not any(r.outcome is Outcome.FAILED and r.check.severity is Severity.REQUIRED for r in results)
