"""The metrics of `cache` (spec M1)."""

from __future__ import annotations

from typing import Final

from svcdns.telemetry.counters import Family, MetricKind

_BY_ZONES: Final = ("server", "zones", "view")
_BY_TYPE: Final = ("server", "type", "zones", "view")

ENTRIES: Final = Family("coredns_cache_entries", MetricKind.GAUGE, "Entries in the cache.", _BY_TYPE)
REQUESTS: Final = Family("coredns_cache_requests_total", MetricKind.COUNTER, "Questions that the cache was asked.", _BY_ZONES)
HITS: Final = Family("coredns_cache_hits_total", MetricKind.COUNTER, "Questions that the cache answered.", _BY_TYPE)
MISSES: Final = Family("coredns_cache_misses_total", MetricKind.COUNTER, "Questions that the cache could not answer.", _BY_ZONES)
EVICTIONS: Final = Family("coredns_cache_evictions_total", MetricKind.COUNTER, "Entries that had to make room.", _BY_TYPE)
DROPS: Final = Family(
    "coredns_cache_drops_total", MetricKind.COUNTER, "Replies that were not kept because they answer another question.", _BY_ZONES
)
