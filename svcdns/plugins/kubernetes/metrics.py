"""The metrics of `kubernetes`. The control process, which reads from the API server, updates them."""

from __future__ import annotations

from typing import Final

from svcdns.telemetry.counters import Family, MetricKind

_REST_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

PROGRAMMING_DURATION: Final = Family(
    "coredns_kubernetes_dns_programming_duration_seconds",
    MetricKind.HISTOGRAM,
    "Seconds from the change of an endpoint until control queues the change for the workers.",
    ("service_kind",),
    tuple(0.001 * 2**i for i in range(20)),
)
VIEW_AGE: Final = Family(
    "svcdns_kubernetes_view_age_seconds",
    MetricKind.GAUGE,
    "Seconds since the API server last confirmed the objects of a resource; the largest age of all views.",
    ("resource",),
)
RECEIVED: Final = Family(
    "svcdns_kubernetes_received_bytes_total",
    MetricKind.COUNTER,
    "Octets of lists and watches received from the API server, as they came over the network (compressed or not).",
    ("resource",),
)
REST_DURATION: Final = Family(
    "coredns_kubernetes_rest_client_request_duration_seconds",
    MetricKind.HISTOGRAM,
    "Seconds from a request to the API server to the head of its response.",
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
    "Attempts to load a snapshot at a start: used, refused or missing.",
    ("result",),
)
SNAPSHOT_WRITES: Final = Family(
    "svcdns_kubernetes_snapshot_writes_total",
    MetricKind.COUNTER,
    "Attempts to write the snapshot: done or failed.",
    ("result",),
)
