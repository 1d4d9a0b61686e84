"""The metrics of `dnssec`."""

from __future__ import annotations

from typing import Final

from svcdns.telemetry.counters import Family, MetricKind

ENTRIES: Final = Family(
    "coredns_dnssec_cache_entries", MetricKind.GAUGE, "The number of elements in the dnssec cache.", ("server", "type")
)
HITS: Final = Family("coredns_dnssec_cache_hits_total", MetricKind.COUNTER, "The count of cache hits.", ("server",))
MISSES: Final = Family(
    "coredns_dnssec_cache_misses_total", MetricKind.COUNTER, "The count of cache misses.", ("server",)
)
SIGNATURE: Final = "signature"
"""The value of the label `type`."""
