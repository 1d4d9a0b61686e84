"""Memory of the answer tables, by the container's limit."""

from __future__ import annotations

from svcdns.serving.table_budget import UNLIMITED, table_budget


def test_workers_share_an_eighth() -> None:
    """At most as much as without a limit."""
    assert table_budget(None, 3) == UNLIMITED
    assert table_budget(160 << 20, 1) == 20 << 20
    assert table_budget(160 << 20, 2) == 10 << 20
    assert table_budget(1 << 40, 1) == UNLIMITED
