"""The metrics of the accelerator. A worker without SVCDNS_ACCELERATOR does not have these metrics."""

from __future__ import annotations

from typing import Final

from svcdns.telemetry.counters import Family, MetricKind

UP: Final = Family(
    "svcdns_accelerator_up",
    MetricKind.GAUGE,
    "1 if the worker is connected to `svcdns accelerate`, so that the program in the kernel answers queries; else 0.",
)
ENTRIES: Final = Family(
    "svcdns_accelerator_entries",
    MetricKind.GAUGE,
    "Queries to which the program in the kernel has the reply.",
)
REPLIES: Final = Family(
    "svcdns_accelerator_replies_total",
    MetricKind.COUNTER,
    "Replies of the program in the kernel. The metrics of queries include these replies.",
    ("server",),
)
PASSED: Final = Family(
    "svcdns_accelerator_passed_total",
    MetricKind.COUNTER,
    "Packets for a DNS listener that the program in the kernel left to the server, by reason.",
    ("reason",),
)
DROPPED: Final = Family(
    "svcdns_accelerator_dropped_total",
    MetricKind.COUNTER,
    "Packets that the program in the kernel dropped, because the reply was replaced while the program copied it.",
)
PASSED_REASONS: Final = ("unknown", "expired", "stale", "failed")
"""`unknown`: no reply is stored. `expired`: the stored reply has expired.

`stale`: the last heartbeat of the worker is too old. `failed`: the kernel did not make room in the packet.
"""
