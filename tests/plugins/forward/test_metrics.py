"""The metrics of a *forward* rule."""

from __future__ import annotations

from svcdns.plugins.forward.metrics import Cells
from svcdns.telemetry.counters import Counters
from tests.support import world


def test_counts() -> None:
    counters = Counters()
    cells = Cells(counters)
    assert world.counted(counters) == {}
    cells.broken()
    cells.rejected()
    cells.rejected()
    cells.hedged("192.0.2.1:53", "slow")
    assert world.counted(counters) == {
        ("coredns_forward_healthcheck_broken_total",): 1,
        ("coredns_forward_max_concurrent_rejects_total",): 2,
        ("svcdns_forward_hedges_total", "192.0.2.1:53", "slow"): 1,
    }
