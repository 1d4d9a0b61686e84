"""Sends the same queries to two servers, and counts the differences between their replies.

If the replies to a query differ, the query is sent once more, because the cluster or an upstream may have changed
meanwhile. Only a difference that occurs again is counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final, Protocol

from svcdns.shadow.asking import Received, Server
from svcdns.shadow.comparison import Kind, differences
from svcdns.wire import names
from svcdns.wire.codes import type_text
from svcdns.wire.errors import FormError

TOGETHER: Final = 32
"""The number of queries that are in progress at the same time, without slow ones."""
AGAIN: Final = 0.25
"""Seconds until a query with different replies is asked again."""
SLOW: Final = 0.25
"""Seconds after which a query without both replies no longer delays the next ones."""
SLOW_QUERIES: Final = 96
"""The most slow queries in progress. With the others, they fit into the receive buffer of a server's socket."""
PAUSING: Final = 2048
"""The most queries that wait until they are asked again."""
KEPT: Final = 100_000
"""The most latencies that are kept for the percentiles."""


@dataclass(slots=True)
class Outcome:
    """The result of a comparison. `examples` has the first query of each kind, and the text of its difference."""

    compared: int = 0
    different: int = 0
    transient: int = 0
    """Queries whose replies differed once, and were equal when they were asked again."""
    kinds: Counter[Kind] = field(default_factory=Counter)
    examples: dict[Kind, tuple[str, str]] = field(default_factory=dict)
    reference_seconds: list[float] = field(default_factory=list)
    candidate_seconds: list[float] = field(default_factory=list)

    def percentile(self, seconds: list[float], share: float) -> float:
        """Returns a percentile of latencies in milliseconds, or 0 if there are none."""
        ordered = sorted(seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0


class Live(Protocol):
    """Queries that arrive while they are compared."""

    async def take(self, timeout: float | None) -> bytes | None:
        """Returns the next query, or None if there are no more, or if none arrives within `timeout` seconds."""
        ...


async def compare(
    queries: Iterable[bytes] | Live, reference: Server, candidate: Server, *, limit: float, rate: float
) -> Outcome:
    """Sends the queries to both servers, for at most `limit` seconds and at most `rate` queries a second.

    0 means no limit.
    """
    outcome, take = Outcome(), _timed(queries, limit)
    pace = _Pace(rate)

    slow, pausing, again = map(asyncio.Semaphore, (SLOW_QUERIES, PAUSING, TOGETHER))

    async def first(query: bytes) -> None:
        found = await _one(query, reference, candidate, outcome)
        if found:
            await pausing.acquire()
            group.create_task(second(query, found)).add_done_callback(lambda _: pausing.release())

    async def second(query: bytes, found: Mapping[Kind, str]) -> None:
        await _pause()
        async with again:
            await _again(query, found, reference, candidate, outcome)

    async def work() -> None:
        while (query := await take()) is not None:
            await pace.wait()
            task = group.create_task(first(query))
            await asyncio.wait([task], timeout=SLOW)
            if not task.done():
                await slow.acquire()
                task.add_done_callback(lambda _: slow.release())

    async with asyncio.TaskGroup() as group:
        for _ in range(TOGETHER):
            group.create_task(work())
    return outcome


def _timed(queries: Iterable[bytes] | Live, limit: float) -> Callable[[], Awaitable[bytes | None]]:
    """Returns a function that returns the next query, or None after the last one or after `limit` seconds."""
    ends = time.monotonic() + limit if limit else inf
    source = iter(queries) if isinstance(queries, Iterable) else queries

    async def take() -> bytes | None:
        left = ends - time.monotonic()
        if left < 0:
            return None
        if isinstance(source, Iterator):
            return next(source, None)
        return await source.take(left if left < inf else None)

    return take


class _Pace:
    """Delays its callers: `wait` returns at most `rate` times a second."""

    def __init__(self, rate: float) -> None:
        self._gap, self._next = (1 / rate if rate else 0.0), 0.0

    async def wait(self) -> None:
        if not self._gap:
            return
        now = time.monotonic()
        self._next = max(self._next + self._gap, now)
        await asyncio.sleep(self._next - now)


async def _pause() -> None:
    await asyncio.sleep(AGAIN)


async def _one(query: bytes, reference: Server, candidate: Server, outcome: Outcome) -> dict[Kind, str]:
    """Sends a query to both servers, and returns the differences between the replies."""
    first, second = await _both(query, reference, candidate, outcome.compared)
    found = differences(first, second)
    outcome.compared += 1
    if len(outcome.reference_seconds) < KEPT and first.octets is not None and second.octets is not None:
        outcome.reference_seconds.append(first.seconds)
        outcome.candidate_seconds.append(second.seconds)
    return found


async def _again(
    query: bytes, found: Mapping[Kind, str], reference: Server, candidate: Server, outcome: Outcome
) -> None:
    """Sends the query to both servers once more, and counts the differences that are also in `found`."""
    first, second = await _both(query, reference, candidate, outcome.compared)
    again = differences(first, second)
    confirmed = {kind: text for kind, text in again.items() if kind in found}
    if not confirmed:
        outcome.transient += 1
        return
    outcome.different += 1
    for kind, text in confirmed.items():
        outcome.kinds[kind] += 1
        outcome.examples.setdefault(kind, (_question(query), text))


async def _both(query: bytes, reference: Server, candidate: Server, number: int) -> tuple[Received, Received]:
    """Sends a query to both servers at the same time. The server that gets the query first alternates."""
    if number % 2:
        second, first = await asyncio.gather(candidate.ask(query), reference.ask(query))
    else:
        first, second = await asyncio.gather(reference.ask(query), candidate.ask(query))
    return first, second


def _question(query: bytes) -> str:
    try:
        name, at = names.read_name(query, 12)
    except (FormError, IndexError):
        return "(no question)"
    return f"{names.to_text(name)} {type_text(int.from_bytes(query[at : at + 2], 'big'))}"
