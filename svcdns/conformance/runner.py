"""Runs checks: a few at a time, each within a time limit, and all of them within another; every one ends with a result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from svcdns.conformance.check import Check, Result
from svcdns.conformance.errors import ConformanceError
from svcdns.conformance.examiner import Examiner
from svcdns.conformance.outcome import Failed, Outcome, Severity, Skipped

TOGETHER: Final = 8
"""Checks that run at the same time."""
LONGEST: Final = 90.0
"""Seconds that one check may take."""

Tell = Callable[[Result], None]


async def run(
    examiner: Examiner, checks: Iterable[Check], *, limit: float, tell: Tell = lambda _: None, together: int = TOGETHER
) -> list[Result]:
    """The results in the order of the checks. `limit` is the seconds for all; what is not done then has failed. `tell` hears of each
    result as it comes."""
    end = asyncio.get_running_loop().time() + limit
    gate = asyncio.Semaphore(together)

    async def one(check: Check) -> Result:
        async with gate:
            result = await _one(examiner, check, end)
        tell(result)
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
        late = Failed("(all queries of this check)", "an end within the time limit", f"none after {clock() - began:.1f} s")
        return Result(check, Outcome.FAILED, clock() - began, late)
    except ConformanceError as error:  # the API server refused a change: nothing was learned about the server under test
        return Result(check, Outcome.SKIPPED, clock() - began, note=str(error))
    return Result(check, Outcome.PASSED, clock() - began)


def conforms(results: Iterable[Result]) -> bool:
    """Whether no required check failed."""
    return not any(r.outcome is Outcome.FAILED and r.check.severity is Severity.REQUIRED for r in results)
