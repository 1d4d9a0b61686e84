"""The order of stores to shared memory."""

from __future__ import annotations

import pytest

from svcdns.accelerator import store_order


class Lock:
    """A lock that notes its uses."""

    def __init__(self) -> None:
        self.uses: list[str] = []

    def __enter__(self) -> None:
        self.uses.append("acquired")

    def __exit__(self, *_: object) -> None:
        self.uses.append("released")


def test_an_acquisition_follows_a_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single acquisition and release would let two stores change places between them."""
    lock = Lock()
    monkeypatch.setattr(store_order, "_LOCK", lock)
    store_order.order_stores()
    assert lock.uses == ["acquired", "released"] * 2
