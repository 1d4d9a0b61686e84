"""The metrics of `forward`; those of single upstreams are in `svcdns.upstream.server`."""

from __future__ import annotations

from typing import Final

from svcdns.telemetry.counters import Counters, Family, MetricKind

BROKEN: Final = Family(
    "coredns_forward_healthcheck_broken_total",
    MetricKind.COUNTER,
    "Questions that found all upstreams down and were sent to one at random.",
)
REJECTED: Final = Family(
    "coredns_forward_max_concurrent_rejects_total", MetricKind.COUNTER, "Questions that were refused because too many were in flight."
)
HEDGES: Final = Family(
    "svcdns_forward_hedges_total",
    MetricKind.COUNTER,
    "Questions to a second upstream while the first, still waited for, was silent or slower than usual.",
    ("to", "reason"),
)


class Cells:
    """Counts for one line."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._broken, self._rejected = counters.cell(BROKEN), counters.cell(REJECTED)

    def broken(self) -> None:
        """All upstreams were down."""
        self._counters.add(self._broken)

    def rejected(self) -> None:
        """There were too many."""
        self._counters.add(self._rejected)

    def hedged(self, to: str, reason: str) -> None:
        """Another upstream was asked; the reason is `silent` or `slow`."""
        self._counters.count(HEDGES, to, reason)
