"""Measures the answers of servers per CPU second over TCP and over TLS."""

from __future__ import annotations

from pathlib import Path

from bench import pacing, queries
from bench.cluster import Cluster
from bench.results import Row, Target
from bench.run import Run
from bench.servers import Server
from bench.throughput import hits_of, servers_of, write_files

NEW = ", new connections"
MAX_RATE = 50_000
"""More connections a second than a server can accept on one core."""
TLS_SERVICES = 1_000
"""The Services of the cluster for DNS over TLS. Its servers are not shared with other scenarios."""


def tcp(run: Run) -> None:
    """Measures answers per CPU second for A queries over TCP, with new TCP connections, and over TLS (DoT)."""
    limits: dict[str, tuple[Target, ...]] = {
        "": (Target(3, "coredns", at_least=True), Target(1, "nsd", at_least=True)),
        NEW: (Target(1.5, "coredns", at_least=True),),
        ", DoT": (Target(1.5, "coredns", at_least=True),),
    }
    rows = {label: run.row("tcp", f"answers per CPU second{label}", "1/s", *limits[label]) for label in limits}
    cluster = run.shared_servers().cluster
    measured, warm = write_files(run, "tcp", hits_of(run, cluster), queries.every_name(cluster))
    small = Cluster(min(TLS_SERVICES, run.options.services))
    measured_tls, warm_tls = write_files(run, "dot", hits_of(run, small), queries.every_name(small))
    with run.server_group(small, run.peers("nsd", "coredns"), tls=True) as tls:
        for _ in run.rounds("tcp"):
            for server in servers_of(run, ("nsd", "knot", "coredns")):
                with run.catching_failures("tcp", server.name):
                    run.warm(server, warm, mode="tcp")
                    _measure(run, rows[""], server, measured)
                    if not pacing.why_unavailable():
                        _measure_new_connections(run, rows[NEW], server, measured)
            for server in tls.servers.values():
                with run.catching_failures("tcp", server.name):
                    run.warm(server, warm_tls, mode="dot")
                    _measure(run, rows[", DoT"], server, measured_tls, mode="dot")


def _measure(run: Run, row: Row, server: Server, path: Path, mode: str = "tcp") -> None:
    before = server.cpu()
    figures = run.run_load(server, run.load(mode=mode), path)
    cpu = server.cpu() - before
    run.check(figures, 0.0)
    row.add(server.name, figures.completed / cpu)


def _measure_new_connections(run: Run, row: Row, server: Server, path: Path) -> None:
    before = server.cpu()
    figures = run.run_pace(server, run.pace(MAX_RATE, mode="tcp"), path)
    row.add(server.name, figures.answered / (server.cpu() - before))
