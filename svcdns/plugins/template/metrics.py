"""The metrics of `template`."""

from __future__ import annotations

from typing import Final

from svcdns.telemetry.counters import Family, MetricKind

_LABELS: Final = ("server", "zone", "view", "class", "type")

MATCHES: Final = Family(
    "coredns_template_matches_total", MetricKind.COUNTER, "Queries that a template directive answered.", _LABELS
)
TEMPLATE_FAILURES: Final = Family(
    "coredns_template_template_failures_total",
    MetricKind.COUNTER,
    "Templates of records that could not be rendered.",
    (*_LABELS, "section", "template"),
)
RR_FAILURES: Final = Family(
    "coredns_template_rr_failures_total",
    MetricKind.COUNTER,
    "Rendered templates that are not resource records.",
    (*_LABELS, "section", "template"),
)
