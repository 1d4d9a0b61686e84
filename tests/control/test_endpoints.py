"""The page /ready; tests/end_to_end has the pages of a real server."""

from __future__ import annotations

from typing import Any, cast

import pytest
from aiohttp import web

from svcdns.control.endpoints import Pages
from svcdns.process.shared_memory import State
from svcdns.telemetry.counters import Counters


class Workers:
    """Workers whose states are set by the test."""

    def __init__(self, *states: State) -> None:
        """One state for each worker."""
        self.now = list(states)

    def states(self) -> list[State]:
        """Returns the states that the test has set last."""
        return self.now


async def ready(workers: Workers, *, watching: bool) -> tuple[int, str | None]:
    """Returns status and text of the page /ready."""
    pages = Pages(
        cast("Any", workers), Counters(), [memoryview(bytearray(1 << 16))], 0, lambda: watching, lambda: False
    )
    response = await pages._ready(cast("web.Request", None))
    return response.status, response.text


@pytest.mark.parametrize("watching", [True, False], ids=["with a cluster", "without"])
async def test_ready_is_the_present_state(*, watching: bool) -> None:
    """/ready fails while a worker starts, even if it succeeded before (docs/plugins/ready.md)."""
    workers = Workers(State.SERVING, State.SERVING)
    assert await ready(workers, watching=watching) == (200, "OK")
    workers.now[1] = State.STARTING
    assert await ready(workers, watching=watching) == (503, "kubernetes" if watching else "worker")
    workers.now[1] = State.SERVING
    assert await ready(workers, watching=watching) == (200, "OK")
