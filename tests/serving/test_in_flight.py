"""The number of queries in flight. A worker that stops waits until it is 0."""

from __future__ import annotations

import asyncio

from svcdns.serving.in_flight import InFlight


async def test_queries_count_until_they_are_answered() -> None:
    in_flight, release = InFlight(), asyncio.Event()

    async def wait() -> None:
        await release.wait()

    query = object()
    in_flight.add(query)
    in_flight.start(wait())
    assert len(in_flight) == 2
    in_flight.discard(query)
    assert len(in_flight) == 1
    release.set()
    async with asyncio.timeout(10):
        while in_flight:
            await asyncio.sleep(0)
