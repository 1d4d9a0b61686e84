"""The metrics of `forward`. The metrics of each upstream are in `svcdns.upstream.server`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from svcdns.telemetry.counters import Counters, Family, MetricKind
from svcdns.upstream.relevance import Stripped

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
SHED: Final = Family(
    "svcdns_forward_shed_queries_total",
    MetricKind.COUNTER,
    "Queries refused while they waited for an upstream: their client had the most, and another client needed room.",
)
HEDGES: Final = Family(
    "svcdns_forward_hedges_total",
    MetricKind.COUNTER,
    "Queries to a second upstream because the first, whose reply is still awaited, was silent or slower than usual.",
    ("to", "reason"),
)
STRIPPED: Final = Family(
    "svcdns_forward_stripped_records_total",
    MetricKind.COUNTER,
    "Records that were removed from replies of an upstream because they do not belong to the query.",
    ("to", "reason"),
)
TRAILING: Final = Family(
    "svcdns_forward_trailing_octets_total",
    MetricKind.COUNTER,
    "Replies of an upstream with octets after the last record; the octets are ignored.",
    ("to",),
)
REBIND: Final = Family(
    "svcdns_forward_rebind_total",
    MetricKind.COUNTER,
    "Records of an upstream that lead from an outside name into the cluster's zones or to private addresses.",
    ("to", "kind", "action"),
)


class Cells:
    """The counters of one forward rule."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._broken, self._rejected = counters.cell(BROKEN), counters.cell(REJECTED)
        self._shed = counters.cell(SHED)

    def broken(self) -> None:
        """Counts a query that failed because all upstreams were down."""
        self._counters.add(self._broken)

    def rejected(self) -> None:
        """Counts a query that was refused because of a limit."""
        self._counters.add(self._rejected)

    def stripped(self, to: str, stripped: Mapping[Stripped, int]) -> None:
        """Counts records that were removed from a reply of the upstream `to`, by reason."""
        for reason, count in stripped.items():
            self._counters.count(STRIPPED, to, reason.value, amount=count)

    def trailing(self, to: str) -> None:
        """Counts a reply of the upstream `to` with octets after its last record."""
        self._counters.count(TRAILING, to)

    def rebind(self, to: str, kind: str, count: int, *, blocked: bool) -> None:
        """Counts records from the upstream `to` that point into the cluster's zones or to private addresses."""
        self._counters.count(REBIND, to, kind, "blocked" if blocked else "passed", amount=count)

    def shed(self, queries: int) -> None:
        """Counts queries that were refused while they waited, because another client needed the place."""
        self._counters.add(self._shed, queries)

    def hedged(self, to: str, reason: str) -> None:
        """Counts an additional query to the upstream `to`.

        `reason` states whether another upstream was silent or slow.
        """
        self._counters.count(HEDGES, to, reason)
