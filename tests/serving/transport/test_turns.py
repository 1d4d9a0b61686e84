"""Turns of connections that have many queries waiting."""

from __future__ import annotations

import asyncio
from functools import partial
from time import perf_counter

import pytest

from svcdns.eventloop.fair_queue import QUANTUM
from svcdns.serving.transport import turns
from svcdns.serving.transport.connections import MAX_CONNECTIONS
from svcdns.serving.transport.turns import Turns


async def test_clients_take_turns() -> None:
    """A client with many connections does not delay a client with one connection."""
    order: list[str] = []
    waiting = Turns()

    def work(number: int) -> None:
        order.append(f"many {number}")
        ends = perf_counter() + QUANTUM
        while perf_counter() < ends:
            pass

    for number in range(200):
        waiting.add(b"many", partial(work, number))
    waiting.add(b"one", lambda: order.append("one"))
    async with asyncio.timeout(10):
        while waiting.clients:
            await asyncio.sleep(0)
    assert order.index("one") <= 2
    assert [one for one in order if one != "one"] == [f"many {number}" for number in range(200)]


async def test_other_work_runs_between_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE", 1e-9)
    order: list[str] = []
    waiting = Turns()
    for _ in range(20):
        waiting.add(b"client", lambda: order.append("turn"))
    async with asyncio.timeout(10):
        while waiting.clients:
            await asyncio.sleep(0)
            order.append("other")
    assert order == ["turn", "other"] * 20


async def test_work_that_fails() -> None:
    """The exception is reported to the event loop. The other connections get their turns."""
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(str(context["exception"])))
    done: list[int] = []
    waiting = Turns()

    def fails() -> None:
        raise RuntimeError("broken")

    waiting.add(b"client", fails)
    waiting.add(b"client", lambda: done.append(1))
    async with asyncio.timeout(10):
        while not done:
            await asyncio.sleep(0)
    assert reported == ["broken"]


async def test_the_connections_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When MAX_WAITING connections wait, the client with most of them loses its newest turn.

    The real MAX_WAITING is at least twice the limit of connections, so a worker never reaches it.
    """
    assert turns.MAX_WAITING >= 2 * MAX_CONNECTIONS
    monkeypatch.setattr(turns, "MAX_WAITING", 3)
    done: list[str] = []
    waiting = Turns()
    for number in range(5):
        waiting.add(b"many", partial(done.append, f"many {number}"))
    waiting.add(b"one", partial(done.append, "one"))
    async with asyncio.timeout(10):
        while waiting.clients:
            await asyncio.sleep(0)
    assert sorted(done) == ["many 0", "many 1", "one"]
