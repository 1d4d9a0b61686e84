"""Profiles of this process."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from svcdns.telemetry.profiles import ProfileError, cpu, heap, stacks


async def test_processor_time_counts_for_the_function_that_used_it() -> None:
    def burn() -> None:
        begun = time.process_time()
        while time.process_time() - begun < 0.2:
            pass

    profile = asyncio.create_task(cpu(0.3))
    await asyncio.sleep(0)  # the profile begins
    burn()
    found = await profile
    assert sum(sample.number for sample in found if any(place.function.endswith("burn") for place in sample.stack)) >= 5
    assert all(sample.amount == sample.number * 10_000_000 for sample in found)
    assert signal.getsignal(signal.SIGPROF) == signal.SIG_DFL


async def test_memory_that_stays_in_use() -> None:
    kept: list[bytes] = []
    profile = asyncio.create_task(heap(0.05))
    await asyncio.sleep(0)
    kept.append(bytes(3_000_000))
    found = await profile
    largest = max(found, key=lambda sample: sample.amount)
    assert largest.amount >= 3_000_000
    assert largest.stack[0].file == __file__


@pytest.mark.parametrize("function", [cpu, heap])
async def test_one_profile_at_a_time(function: object) -> None:
    assert callable(function)
    first = asyncio.create_task(function(0.05))
    await asyncio.sleep(0)
    with pytest.raises(ProfileError, match="already being made"):
        await function(0.05)
    await first


@pytest.mark.parametrize("seconds", [0, -1, 121, float("nan")])
async def test_the_time_has_bounds(seconds: float) -> None:
    with pytest.raises(ProfileError, match="at most 120 seconds"):
        await cpu(seconds)


async def test_the_stacks_of_all_tasks() -> None:
    async def waits_here() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(waits_here(), name="the waiting one")
    await asyncio.sleep(0)
    text = stacks()
    task.cancel()
    assert "task the waiting one" in text
    assert "waits_here" in text
    assert "test_the_stacks_of_all_tasks" in text
