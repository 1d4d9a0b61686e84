"""Measures latency at 5,000 queries a second in four states of a server.

The states are: no changes, changing endpoints, relists of a large cluster, and a new server to which each name is sent
once.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from bench import queries
from bench.client import make_query
from bench.cluster import Cluster
from bench.cold import SMOKE_PEERS
from bench.dnsperf import BrokenError
from bench.open_loop import Sample, generate, percentile
from bench.peers import WATCHERS
from bench.results import Row, Target
from bench.run import Run, gc_disabled
from bench.servers import Server, ServerGroup
from bench.throughput import ALL

RATE = 5_000
CHANGES = 200
"""Endpoint changes a second."""

RELIST_TAIL = 0.3
"""Seconds after the watches are open again that still count as part of a relist."""

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
TARGETS = {"p50": (Target(1.2, "nsd"),), "p99": (Target(1.5, "nsd"),)}

Disturbance = Callable[[Server, float], list[tuple[float, float]]]
"""Disturbs a server for some seconds. Returns the time spans of the disturbance, by the realtime clock."""


def latency(run: Run) -> None:
    """Measures p50 to p99.9 of the latency at 5,000 queries a second: undisturbed, with changes, in relists, after a
    start.
    """
    cluster = Cluster(run.options.services, 10)
    with run.server_group(cluster, run.peers(*ALL)) as server_group:
        rows = {name: _rows(run, name) for name in ("plain", "changes", "relist")}
        for _ in run.rounds("latency"):
            for server in server_group.servers.values():
                with run.catching_failures("latency", server.name):
                    _measure(run, server_group, server, rows)
    cold = _rows(run, "cold")
    for _ in run.rounds("latency, cold"):
        for name in run.peers(*(SMOKE_PEERS if run.options.smoke else ALL)):
            with run.catching_failures("latency", name), run.server_group(cluster, [name]) as server_group:
                _percentiles(_cold_sample(server_group.servers[name]), cold, name)


def _measure(run: Run, server_group: ServerGroup, server: Server, rows: dict[str, dict[str, Row]]) -> None:
    run.warm(server, run.queries("latency-warm", queries.every_name(server_group.cluster).lines))
    plain = _percentiles(_sample(run, server, _no_disturbance), rows["plain"], server.name)
    for name in ("changes", "relist"):
        if server.name == "nsd":  # NSD has no such disturbance: its plain latency is the reference
            _add(rows[name], "nsd", plain)
        elif server.name in WATCHERS:
            _percentiles(_sample(run, server, _churn if name == "changes" else _relist), rows[name], server.name)


def _rows(run: Run, name: str) -> dict[str, Row]:
    rows = {label: run.row("latency", f"{name}, {label}", "ms", *TARGETS.get(label, ())) for label in PERCENTILES}
    return rows | {"lost": run.row("latency", f"{name}, lost", "%")}


def _cold_sample(server: Server) -> Sample:
    """Sends an A query for each Service once, in random order."""
    cluster = server.config.cluster
    packets = [make_query(cluster.fqdn(number)) for number in range(cluster.services)]
    random.Random(5).shuffle(packets)
    with gc_disabled():
        return _checked(server, generate(server.port, packets, RATE, len(packets) / RATE))


def _checked(server: Server, sample: Sample) -> Sample:
    if sample.lost > len(sample.sent) / 2 or not sample.sent:
        raise BrokenError(f"{server.name}: {sample.lost} of {len(sample.sent)} queries were lost")
    return sample


def _sample(run: Run, server: Server, disturbance: Disturbance) -> Sample:
    """Sends queries while `disturbance` runs in a thread.

    Returns the queries that were sent within the time spans that `disturbance` returns.
    """
    rng = random.Random(4)
    cluster = server.config.cluster
    packets = [make_query(cluster.fqdn(rng.randrange(cluster.services))) for _ in range(10_000)]
    seconds = 1.0 if run.options.smoke else float(run.options.seconds)
    spans: list[tuple[float, float]] = []
    errors: list[Exception] = []

    def disturb() -> None:
        try:
            spans.extend(disturbance(server, seconds))
        except (BrokenError, RuntimeError) as error:
            errors.append(error)

    other = threading.Thread(target=disturb)
    with gc_disabled():
        other.start()
        sample = generate(server.port, packets, RATE, seconds)
        other.join()
    if errors:
        raise BrokenError(f"{server.name}: {errors[0]}")
    return _checked(server, sample.within(spans))


def _no_disturbance(_server: Server, seconds: float) -> list[tuple[float, float]]:
    begin = time.time()
    return [(begin, begin + seconds)]


def _churn(server: Server, seconds: float) -> list[tuple[float, float]]:
    begin = time.time()
    server.api.request(f"churn {CHANGES} {seconds}")
    return [(begin, begin + seconds)]


def _relist(server: Server, seconds: float) -> list[tuple[float, float]]:
    """Makes the server list all objects of the cluster repeatedly, for about `seconds`.

    Returns the time span of each relist.
    """
    spans = []
    time.sleep(0.2)
    end = time.time() + seconds - 0.4
    while (begin := time.time()) < end:
        server.relist()
        spans.append((begin, time.time() + RELIST_TAIL))
        time.sleep(0.2)
    return spans


def _percentiles(sample: Sample, rows: dict[str, Row], server: str) -> dict[str, float]:
    found = {label: percentile(sample.latency, share) * 1000 for label, share in PERCENTILES.items()}
    found["lost"] = 100 * sample.lost / len(sample.sent)
    _add(rows, server, found)
    return found


def _add(rows: dict[str, Row], server: str, found: dict[str, float]) -> None:
    for label, figure in found.items():
        rows[label].add(server, figure)
