"""The metrics of `etcd`."""

from __future__ import annotations

from typing import Final

from svcdns.telemetry.counters import Family, MetricKind

_LABELS: Final = ("path",)

CONNECTED: Final = Family(
    "svcdns_etcd_connected",
    MetricKind.GAUGE,
    "1 while the keys below a path of etcd are watched; otherwise, the last known records are in use.",
    _LABELS,
    uniform=True,
)
KEYS: Final = Family("svcdns_etcd_keys", MetricKind.GAUGE, "The keys below a path of etcd.", _LABELS, uniform=True)
INVALID: Final = Family(
    "svcdns_etcd_invalid_values",
    MetricKind.GAUGE,
    "The keys below a path of etcd whose values cannot be used.",
    _LABELS,
    uniform=True,
)
