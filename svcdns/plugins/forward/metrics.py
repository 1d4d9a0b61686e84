"""The metrics of `forward`. The metrics of each upstream are in `svcdns.upstream.server`."""

from __future__ import annotations

from typing import Final

from svcdns.telemetry.counters import Counters, Family, MetricKind

BROKEN: Final = Family(
    "coredns_forward_healthcheck_broken_total",
    MetricKind.COUNTER,
    "Queries that found all upstreams down and were sent to one at random.",
)
REJECTED: Final = Family(
    "coredns_forward_max_concurrent_rejects_total",
    MetricKind.COUNTER,
    "Queries refused because too many were in flight.",
)
HEDGES: Final = Family(
    "svcdns_forward_hedges_total",
    MetricKind.COUNTER,
    "Queries to a second upstream because the first, whose reply is still awaited, was silent or slower than usual.",
    ("to", "reason"),
)


class Cells:
    """The counters of one forward rule."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._broken, self._rejected = counters.cell(BROKEN), counters.cell(REJECTED)

    def broken(self) -> None:
        """Counts a query for which all upstreams were down."""
        self._counters.add(self._broken)

    def rejected(self) -> None:
        """Counts a query that was refused because of a limit."""
        self._counters.add(self._rejected)

    def hedged(self, to: str, reason: str) -> None:
        """Counts a query to the upstream `to`, sent because another upstream is silent or slow (`reason`)."""
        self._counters.count(HEDGES, to, reason)
