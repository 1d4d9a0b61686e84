"""What holds for all tests, and the event loops that tests of a worker run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from svcdns.eventloop.loop import new_loop

ANY_LOOP = ("test_tcp.py", "test_loop.py")
"""Tests that hold on a loop of the standard library too."""


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left for the event loop's next turn because the machine is slow; tests of that set their own slice."""
    monkeypatch.setattr("svcdns.serving.transport.udp.SLICE", float("inf"))
    monkeypatch.setattr("svcdns.serving.transport.udp.MAX_WORK", float("inf"))
    monkeypatch.setattr("svcdns.eventloop.timer_wheel.SLICE", float("inf"))


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The kinds of loop for a test: a worker's own in `serving` and `worker`, the standard one elsewhere."""
    if not {"serving", "worker"} & set(item.path.parts[-4:-1]):
        return {"loop": asyncio.SelectorEventLoop}
    any_loop = {"any loop": asyncio.SelectorEventLoop} if item.path.name in ANY_LOOP else {}
    return {"draining loop": new_loop, **any_loop}
