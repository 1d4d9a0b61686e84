"""The metrics of `grpc`, by CoreDNS's names."""

from __future__ import annotations

from typing import Final

from svcdns.telemetry.counters import Family, MetricKind

REQUESTS: Final = Family(
    "coredns_grpc_requests_total", MetricKind.COUNTER, "Counter of requests made per upstream.", ("to",)
)
RESPONSES: Final = Family(
    "coredns_grpc_responses_total", MetricKind.COUNTER, "Counter of requests made per upstream.", ("rcode", "to")
)
DURATION: Final = Family(
    "coredns_grpc_request_duration_seconds",
    MetricKind.HISTOGRAM,
    "Histogram of the time each request took.",
    ("to",),
    tuple(0.00025 * 2**i for i in range(16)),
)
