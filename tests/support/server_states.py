"""States of a running server, for the tests of tools that display them."""

from __future__ import annotations

from typing import Any

from svcdns.control.status import (
    Cache,
    Cluster,
    Corefile,
    Latency,
    Memory,
    Process,
    Queries,
    Restarts,
    Status,
    Upstream,
)  # fmt: skip
from svcdns.control.traffic import Estimate, NamespaceTraffic, TopClient, TopName, TrafficReport


def status(total: int = 0, started_at: float = 1000.0, **fields: Any) -> Status:
    """Returns the state of a server after `total` queries: 3 in 4 exist, and 9 in 10 are table hits."""
    queries = Queries(
        total,
        {"A": total},
        {"udp": total},
        {"NOERROR": total * 3 // 4, "NXDOMAIN": total // 4},
        total * 9 // 10,
        Latency([0.001, 0.01], [total // 2, total // 2, 0], total * 0.002),
    )
    values: dict[str, Any] = {
        "format": 1, "version": "1.0", "time": 1060.0, "started_at": started_at, "serving": [],
        "corefile": Corefile("", 1000.0, False, 0, 0.0, ""),
        "clusters": [Cluster("kubernetes", "in-cluster", True, 12.0, {"service": 1500})],
        "queries": queries, "rates": None,
        "upstreams": [
            Upstream("forward", "192.0.2.1:53", 0, 0, total // 10, {"NOERROR": total // 10}, 0.004 if total else 0.0),
            Upstream("forward", "192.0.2.2:53", 1, 7, 0, {}, 0.0),
        ],
        "caches": [Cache("dns://:53", ".", "", "success", 20, 4096, total // 20, 0)],
        "processes": [
            Process("supervisor", 1, "", 20 << 20, 1.0),
            Process("worker 0", 3, "serving", 80 << 20, total / 1000, 40, 8192, 1 << 20),
        ],
        "restarts": [], "memory": Memory(170 << 20, 100 << 20, 1.0), "panics": 0, "log_lines_dropped": 0, **fields,
    }  # fmt: skip
    return Status(**values)


def bad_status() -> Status:
    """Returns the state of a server with every problem that `svcdns top` reports."""
    return status(
        corefile=Corefile("", 1000.0, True, 1, 1001.0, "Corefile:3\x1b[2J: no plugin"),
        restarts=[Restarts("worker 0", "killed", 2)],
        memory=Memory(None, None, 0.25),
        panics=3,
        log_lines_dropped=4,
    )


_OUTSIDE = TopName("a.example.", ("A",), Estimate(600.0, 30.0))
TRAFFIC = TrafficReport(
    1,
    60.0,
    1000,
    Estimate(6000.0, 100.0),
    (("NOERROR", Estimate(4200.0, 60.0)), ("NXDOMAIN", Estimate(1800.0, 60.0))),
    (TopName("web.shop.svc.cluster.local.", ("A", "AAAA"), Estimate(3000.0, 60.0)), _OUTSIDE),
    (TopName("a.example.shop.svc.cluster.local.", ("A",), Estimate(600.0, 30.0)),),
    (
        TopClient("10.0.0.9", "", "", Estimate(1200.0, 60.0)),
        TopClient("10.0.0.7", "shop", "web-1", Estimate(4800.0, 60.0)),
    ),
    (
        NamespaceTraffic(
            "shop", Estimate(4800.0, 60.0), Estimate(1800.0, 60.0), Estimate(1200.0, 60.0), (_OUTSIDE,), 1, "dnsConfig:"
        ),
        NamespaceTraffic("", Estimate(1200.0, 60.0), Estimate(0.0, 0.0), Estimate(0.0, 0.0), (), 0, ""),
    ),
)
