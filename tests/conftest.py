"""What holds for all tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left for the event loop's next turn because the machine is slow; tests of that set their own slice."""
    monkeypatch.setattr("svcdns.serving.transport.udp.SLICE", float("inf"))
    monkeypatch.setattr("svcdns.serving.transport.udp.TURN", float("inf"))
    monkeypatch.setattr("svcdns.eventloop.timer_wheel.SLICE", float("inf"))
