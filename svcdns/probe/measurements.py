"""What a probe has measured: metrics for Prometheus, and percentiles for people."""

from __future__ import annotations

from collections import Counter as Counts
from collections import deque
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

KEPT: Final = 100_000
"""The most durations of one kind that are kept for percentiles."""
QUERY_BUCKETS: Final = tuple(0.00025 * 2**n for n in range(15))
"""From 0.25 ms to 4 s."""
PROGRAMMING_BUCKETS: Final = tuple(0.001 * 2**n for n in range(16))
"""From 1 ms to 33 s. The first buckets are those of `coredns_kubernetes_dns_programming_duration_seconds`."""


class Measurements:
    """The durations and failures of a probe, by server. `registry` has the metrics (docs/probe.md)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._durations: dict[tuple[str, str], deque[float]] = {}
        self._failures: dict[tuple[str, str], int] = {}
        self._reasons: dict[tuple[str, str], Counts[str]] = {}
        self._query_seconds = Histogram(
            "svcdns_probe_query_duration_seconds",
            "The time from a query to its reply.",
            ["server"],
            registry=self.registry,
            buckets=QUERY_BUCKETS,
        )
        self._failed_queries = Counter(
            "svcdns_probe_failed_queries",
            "Queries without the expected reply, by reason: timeout, or the response code.",
            ["server", "reason"],
            registry=self.registry,
        )
        self._programming_seconds = Histogram(
            "svcdns_probe_programming_duration_seconds",
            "The time from the change of an object at the API server to the new answer.",
            ["server", "change"],
            registry=self.registry,
            buckets=PROGRAMMING_BUCKETS,
        )
        self._failed_changes = Counter(
            "svcdns_probe_failed_changes",
            "Changes that had no new answer within the time limit.",
            ["server", "change"],
            registry=self.registry,
        )

    def answered(self, server: str, seconds: float) -> None:
        """Counts a query with the expected reply."""
        self._query_seconds.labels(server).observe(seconds)
        self._keep(server, "query", seconds)

    def failed(self, server: str, reason: str) -> None:
        """Counts a query without the expected reply."""
        self._failed_queries.labels(server, reason).inc()
        self._fail(server, "query")
        self._reasons.setdefault((server, "query"), Counts())[reason] += 1

    def visible(self, server: str, change: str, seconds: float) -> None:
        """Counts a change whose new answer came after `seconds`. `change` is `service` or `endpoint`."""
        self._programming_seconds.labels(server, change).observe(seconds)
        self._keep(server, change, seconds)

    def missed(self, server: str, change: str) -> None:
        """Counts a change that had no new answer within the time limit."""
        self._failed_changes.labels(server, change).inc()
        self._fail(server, change)

    def kinds(self) -> list[tuple[str, str]]:
        """Returns each server with the kinds of its measurements: `query`, `service` or `endpoint`."""
        return sorted({*self._durations, *self._failures})

    def count(self, server: str, kind: str) -> int:
        """Returns how many durations are kept."""
        return len(self._durations.get((server, kind), ()))

    def reasons(self, server: str, kind: str) -> dict[str, int]:
        """Returns how many measurements failed for each reason: `timeout`, or the response code."""
        return dict(self._reasons.get((server, kind), {}))

    def failures(self, server: str, kind: str) -> int:
        """Returns the number of failures."""
        return self._failures.get((server, kind), 0)

    def percentile(self, server: str, kind: str, share: float) -> float | None:
        """Returns a percentile of the durations in seconds, or None if there are none. `share` is from 0 to 1."""
        ordered = sorted(self._durations.get((server, kind), ()))
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None

    def _keep(self, server: str, kind: str, seconds: float) -> None:
        self._durations.setdefault((server, kind), deque(maxlen=KEPT)).append(seconds)

    def _fail(self, server: str, kind: str) -> None:
        self._failures[server, kind] = self._failures.get((server, kind), 0) + 1
