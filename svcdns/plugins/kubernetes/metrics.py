"""The metrics of `kubernetes` (spec K20). Control observes them: it is the process that talks to the API server."""

from __future__ import annotations

from typing import Final

from svcdns.telemetry.counters import Family, MetricKind

_REST_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

PROGRAMMING_DURATION: Final = Family(
    "coredns_kubernetes_dns_programming_duration_seconds",
    MetricKind.HISTOGRAM,
    "Seconds from the change of an endpoint, as its slice's annotation tells, to the moment it is in the answers.",
    ("service_kind",),
    tuple(0.001 * 2**i for i in range(20)),
)
VIEW_AGE: Final = Family(
    "svcdns_kubernetes_view_age_seconds",
    MetricKind.GAUGE,
    "Seconds since the API server last confirmed what is known of a resource; of several views, the oldest.",
    ("resource",),
)
RECEIVED: Final = Family(
    "svcdns_kubernetes_received_bytes_total",
    MetricKind.COUNTER,
    "Octets of lists and watches that the API server sent, compressed where they came so.",
    ("resource",),
)
REST_DURATION: Final = Family(
    "coredns_kubernetes_rest_client_request_duration_seconds",
    MetricKind.HISTOGRAM,
    "Seconds that requests to the API server took until the head of the response.",
    ("verb", "host"),
    _REST_BUCKETS,
)
REST_REQUESTS: Final = Family(
    "coredns_kubernetes_rest_client_requests_total",
    MetricKind.COUNTER,
    "Requests to the API server by response code.",
    ("code", "method", "host"),
)
SNAPSHOT_LOADS: Final = Family(
    "svcdns_kubernetes_snapshot_loads_total",
    MetricKind.COUNTER,
    "Snapshots that were looked for at a start: used, refused or absent.",
    ("result",),
)
SNAPSHOT_WRITES: Final = Family(
    "svcdns_kubernetes_snapshot_writes_total", MetricKind.COUNTER, "Writings of the snapshot: done or failed.", ("result",)
)
