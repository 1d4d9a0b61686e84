"""Latency at 5,000 questions a second: undisturbed, while endpoints change, and while the server lists all of a large cluster anew."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from bench import questions
from bench.asking import packet
from bench.cluster import Cluster
from bench.dnsperf import BrokenError
from bench.open_loop import Sample, ask, percentile
from bench.peers import WATCHERS
from bench.results import Row, Target
from bench.run import Run, collector_at_rest
from bench.servers import Server, Stage
from bench.throughput import ALL

RATE = 5_000
CHANGES = 200
"""Endpoint changes a second."""

AROUND = 0.3
"""Seconds after the watches are back in which a relist still counts as running."""

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
TARGETS = {"p50": (Target(1.3, "nsd"),), "p99": (Target(2, "nsd"),)}

Disturbed = Callable[[Server, float], list[tuple[float, float]]]
"""Disturbs a server for some seconds; the spans of time, by the realtime clock, in which it was."""


def latency(run: Run) -> None:
    """p50 and p99 at 5,000 questions a second: plain, under 200 changes a second, while 100,000 endpoints are listed."""
    cluster = Cluster(run.options.services, 10)
    with run.stage(cluster, run.peers(*ALL)) as stage:
        rows = {name: _rows(run, name) for name in ("plain", "changes", "relist")}
        for _ in run.rounds("latency"):
            for server in stage.servers.values():
                with run.trying("latency", server.name):
                    _measure(run, stage, server, rows)


def _measure(run: Run, stage: Stage, server: Server, rows: dict[str, dict[str, Row]]) -> None:
    run.warm(server, run.questions("latency-warm", questions.every_name(stage.cluster).lines))
    plain = _percentiles(_asked(run, server, _undisturbed), rows["plain"], server.name)
    for name in ("changes", "relist"):
        if server.name == "nsd":  # what it is without such troubles is what others are held to
            _add(rows[name], "nsd", plain)
        elif server.name in WATCHERS:
            _percentiles(_asked(run, server, _churned if name == "changes" else _relisted), rows[name], server.name)


def _rows(run: Run, name: str) -> dict[str, Row]:
    rows = {label: run.row("latency", f"{name}, {label}", "ms", *TARGETS.get(label, ())) for label in PERCENTILES}
    return rows | {"lost": run.row("latency", f"{name}, lost", "%")}


def _asked(run: Run, server: Server, disturbed: Disturbed) -> Sample:
    """Asks while the server is disturbed; the questions that left meanwhile."""
    chosen = random.Random(4)
    cluster = server.site.cluster
    asked = [packet(cluster.fqdn(chosen.randrange(cluster.services))) for _ in range(10_000)]
    seconds = 1.0 if run.options.smoke else float(run.options.seconds)
    spans: list[tuple[float, float]] = []
    troubles: list[Exception] = []

    def disturb() -> None:
        try:
            spans.extend(disturbed(server, seconds))
        except (BrokenError, RuntimeError) as error:
            troubles.append(error)

    other = threading.Thread(target=disturb)
    with collector_at_rest():
        other.start()
        sample = ask(server.port, asked, RATE, seconds)
        other.join()
    if troubles:
        raise BrokenError(f"{server.name}: {troubles[0]}")
    sample = sample.within(spans)
    if sample.lost > len(sample.sent) / 2 or not sample.sent:
        raise BrokenError(f"{server.name}: {sample.lost} of {len(sample.sent)} questions were lost")
    return sample


def _undisturbed(_server: Server, seconds: float) -> list[tuple[float, float]]:
    begin = time.time()
    return [(begin, begin + seconds)]


def _churned(server: Server, seconds: float) -> list[tuple[float, float]]:
    begin = time.time()
    server.api.ask(f"churn {CHANGES} {seconds}")
    return [(begin, begin + seconds)]


def _relisted(server: Server, seconds: float) -> list[tuple[float, float]]:
    """Relists one after the other; the last one may last longer than the asking."""
    spans = []
    time.sleep(0.2)
    end = time.time() + seconds - 0.4
    while (begin := time.time()) < end:
        server.relist()
        spans.append((begin, time.time() + AROUND))
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
