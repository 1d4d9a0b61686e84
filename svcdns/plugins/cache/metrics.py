"""The metrics of `cache`."""

from __future__ import annotations

from typing import Final

from svcdns.telemetry.counters import Counters, Family, MetricKind

_BY_ZONES: Final = ("server", "zones", "view")
_BY_TYPE: Final = ("server", "type", "zones", "view")

ENTRIES: Final = Family("coredns_cache_entries", MetricKind.GAUGE, "Entries in the cache.", _BY_TYPE)
OCTETS: Final = Family("svcdns_cache_bytes", MetricKind.GAUGE, "Memory that the entries in the cache take.", _BY_TYPE)
REQUESTS: Final = Family(
    "coredns_cache_requests_total", MetricKind.COUNTER, "Queries that reached the cache.", _BY_ZONES
)
HITS: Final = Family("coredns_cache_hits_total", MetricKind.COUNTER, "Queries answered from the cache.", _BY_TYPE)
MISSES: Final = Family(
    "coredns_cache_misses_total", MetricKind.COUNTER, "Queries not answered from the cache.", _BY_ZONES
)
EVICTIONS: Final = Family(
    "coredns_cache_evictions_total", MetricKind.COUNTER, "Entries evicted to make room.", _BY_TYPE
)
PREFETCHES: Final = Family(
    "coredns_cache_prefetch_total", MetricKind.COUNTER, "Entries refreshed in the background.", _BY_ZONES
)
STALE: Final = Family(
    "coredns_cache_served_stale_total", MetricKind.COUNTER, "Queries answered with an expired entry.", _BY_ZONES
)


class Cells:
    """The counters of one cache for one value of the label `server`."""

    def __init__(self, counters: Counters, server: str, zones: str, view: str) -> None:
        """`zones` and `view` are the values of the labels with these names."""
        labels = (zones, view)
        self.requests = counters.cell(REQUESTS, server, *labels)
        self.misses = counters.cell(MISSES, server, *labels)
        self.prefetches = counters.cell(PREFETCHES, server, *labels)
        self.stale = counters.cell(STALE, server, *labels)
        self.hits = {which: counters.cell(HITS, server, which, *labels) for which in ("success", "denial")}
        self.evictions = {which: counters.cell(EVICTIONS, server, which, *labels) for which in ("success", "denial")}
        self.octets = {which: counters.cell(OCTETS, server, which, *labels) for which in ("success", "denial")}
        self.entries = {which: counters.cell(ENTRIES, server, which, *labels) for which in ("success", "denial")}
