"""The metrics of zone files and of zones from DNS providers."""

from __future__ import annotations

from typing import Final

from svcdns.telemetry.counters import Family, MetricKind

REFUSED: Final = Family(
    "svcdns_file_zone_refused",
    MetricKind.GAUGE,
    "1 while a zone's file cannot be used; its previous content, or SERVFAIL, is served.",
    ("file", "zone"),
    uniform=True,
)

_HOSTED: Final = ("plugin", "zone", "id")

FAILED_FETCHES: Final = Family(
    "svcdns_hosted_zone_failed_fetches_total",
    MetricKind.COUNTER,
    "Fetches of a zone from its provider that failed; the zone's previous records are served.",
    _HOSTED,
    uniform=True,
)
LAST_FETCH: Final = Family(
    "svcdns_hosted_zone_last_fetch_timestamp_seconds",
    MetricKind.GAUGE,
    "Unix time at which a zone was last fetched from its provider.",
    _HOSTED,
    uniform=True,
)
