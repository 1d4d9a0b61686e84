"""The metrics of the `dnstap` plugin."""

from __future__ import annotations

from typing import Final

from svcdns.telemetry.counters import Family, MetricKind

MESSAGES: Final = Family(
    "svcdns_dnstap_messages_total",
    MetricKind.COUNTER,
    "Messages that were written to a dnstap connection.",
    ("endpoint",),
)
DROPPED: Final = Family(
    "svcdns_dnstap_dropped_messages_total",
    MetricKind.COUNTER,
    "Messages that were dropped because the dnstap reader was slow or gone.",
    ("endpoint",),
)
CONNECTED: Final = Family(
    "svcdns_dnstap_connections",
    MetricKind.GAUGE,
    "Dnstap connections of the workers whose reader accepts messages.",
    ("endpoint",),
)
