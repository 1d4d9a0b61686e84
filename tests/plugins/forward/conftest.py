"""Fixtures with upstreams on loopback, which give different answers for the same name."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.scripted_upstream import ScriptedUpstream, answer
from tests.support.upstreams import all_finished


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """Starts an upstream that has one address record."""
    async with ScriptedUpstream(answer("a.example.org. 60 IN A 192.0.2.1")) as server:
        yield server


@pytest.fixture
async def other() -> AsyncIterator[ScriptedUpstream]:
    """Starts a second upstream, which has another address for the name."""
    async with ScriptedUpstream(answer("a.example.org. 60 IN A 192.0.2.2")) as server:
        yield server


@pytest.fixture(autouse=True)
async def _finished(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Stops all servers of *forward* after each test."""
    with all_finished(monkeypatch):
        yield
