"""The metrics of `nomad`."""

from __future__ import annotations

from typing import Final

from svcdns.telemetry.counters import Family, MetricKind

_LABELS: Final = ("server", "namespace")

SUCCEEDED: Final = Family(
    "coredns_nomad_success_requests_total", MetricKind.COUNTER, "Counter of DNS requests handled successfully.", _LABELS
)
FAILED: Final = Family(
    "coredns_nomad_failed_requests_total", MetricKind.COUNTER, "Counter of DNS requests failed.", _LABELS
)
