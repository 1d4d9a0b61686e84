"""Measures the CPU time per answer of servers that have just started and have not answered any query."""

from __future__ import annotations

from itertools import product

from bench import queries
from bench.cluster import Cluster
from bench.dnsperf import Load
from bench.queries import Queries
from bench.results import Target
from bench.run import Run
from bench.throughput import ALL, CPU, measure

MIX = 150_000
"""The queries of `cold-mix`."""
SMOKE_PEERS = ("nsd",)
"""The other servers of a smoke run. Each measurement starts the server, which takes most of the time."""


def cold(run: Run) -> None:
    """Measures CPU per answer for A and AAAA queries after a start. Each Service is queried once."""
    cluster = Cluster(run.options.services)
    _cold(run, "cold", cluster, queries.every_name(cluster), (Target(3.5, "nsd"),))


def cold_mix(run: Run) -> None:
    """Measures CPU per answer for the first 150,000 queries of `mix` after a start."""
    cluster = Cluster(run.options.services)
    count = 2_000 if run.options.smoke else MIX
    _cold(run, "cold-mix", cluster, queries.mix(cluster, count), (Target(2, "nsd"),))


def _cold(run: Run, scenario: str, cluster: Cluster, measured: Queries, targets: tuple[Target, ...]) -> None:
    rows = [run.row(scenario, CPU, "µs", *targets), run.row(scenario, "answers", "1/s")]
    path = run.queries(scenario, measured.lines)
    names = run.peers(*(SMOKE_PEERS if run.options.smoke else ALL))
    parts = run.parts(rows)[: 1 if run.options.smoke else 2]
    for _ in run.rounds(scenario):
        for name, (part, disturbance) in product(names, parts):
            with (
                run.catching_failures(scenario, name),
                run.server_group(cluster, [name]) as server_group,
                disturbance(),
            ):
                measure(run, server_group.servers[name], Load(seconds=0), path, measured.nxdomain, part)
