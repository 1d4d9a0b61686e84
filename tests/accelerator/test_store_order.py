"""The order of stores to shared memory."""

from __future__ import annotations

import pytest

from svcdns.accelerator import store_order


def test_an_acquisition_follows_a_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single acquisition and release would let two stores change places between them."""
    uses: list[str] = []
    monkeypatch.setattr(store_order, "_acquire", lambda: uses.append("acquired"))
    monkeypatch.setattr(store_order, "_release", lambda: uses.append("released"))
    store_order.order_stores()
    assert uses == ["acquired", "released"] * 2
