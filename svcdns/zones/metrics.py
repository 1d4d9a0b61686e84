"""The metrics of zone files."""

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
