"""Loops that the tests of serving run on: that of a worker, and for TCP any other besides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from svcdns.eventloop.loop import new_loop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The kinds of loop for a test."""
    any_loop = {"any loop": asyncio.SelectorEventLoop} if item.path.name in ("test_tcp.py", "test_draining.py") else {}
    return {"draining loop": new_loop, **any_loop}
