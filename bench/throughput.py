"""Measures the CPU time of servers per answer. The answers are in the caches of the servers, except in `miss`.

dnsperf sends queries as fast as replies arrive. `pace` sends one query at a time, at even intervals.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench import pacing, queries
from bench.cluster import Cluster
from bench.dnsperf import Load
from bench.queries import Queries
from bench.results import Row, Target
from bench.run import Run
from bench.servers import Server

LINES = 100_000
MAX_RATE = 300_000
"""Queries a second, more than dnsperf can send on one core. Each name of `miss` is queried once, so there must be
enough.
"""

CPU = "CPU per answer"
ALL = ("nsd", "knot", "unbound", "dnsmasq", "coredns")


def hit(run: Run) -> None:
    """Measures CPU per answer for A queries of random Services, sent as fast as responses arrive."""
    targets = (Target(1.1, "nsd"), Target(7, "coredns", less=True))
    cluster = run.shared_servers().cluster
    _throughput(run, "hit", ALL, hits_of(run, cluster), queries.every_name(cluster), targets)


def hit_5k(run: Run) -> None:
    """Measures CPU per answer for A queries of random Services, one at a time, at 5,000 a second."""
    _paced(run, "hit-5k", 5_000)


def hit_20k(run: Run) -> None:
    """Measures CPU per answer for A queries of random Services, one at a time, at 20,000 a second."""
    _paced(run, "hit-20k", 20_000)


def _paced(run: Run, scenario: str, rate: int) -> None:
    """Measures CPU per answer and latency at a constant rate, without and with a process that empties the CPU
    caches.
    """
    if reason := pacing.why_unavailable():
        run.progress(f"leaving out {scenario}: {reason}\n")
        return
    rows = [
        run.row(scenario, CPU, "µs", Target(1.3, "nsd")),
        run.row(scenario, "latency p50", "µs"),
        run.row(scenario, "latency p99", "µs"),
    ]
    parts = run.parts(rows, targets=True)
    cluster = run.shared_servers().cluster
    measured_file, warm_file = write_files(run, scenario, hits_of(run, cluster), queries.every_name(cluster))
    for _ in run.rounds(scenario):
        for server in servers_of(run, ALL):
            with run.catching_failures(scenario, server.name):
                run.warm(server, warm_file)
                for part, disturbance in parts:
                    with disturbance():
                        _measure_paced(run, server, rate, measured_file, part)


def _measure_paced(run: Run, server: Server, rate: int, path: Path, rows: Iterable[Row]) -> None:
    before = server.cpu()
    figures = run.run_pace(server, run.pace(rate), path)
    cpu = (server.cpu() - before) / figures.answered * 1e6
    for row, figure in zip(rows, (cpu, figures.p50, figures.p99), strict=True):
        row.add(server.name, figure)


def mix(run: Run) -> None:
    """Measures CPU per answer for A and AAAA queries as Pods send them, half of them for external names.

    External names are queried with each search domain of a Pod. The other queries are for Services.
    """
    cluster = run.shared_servers().cluster
    targets = (Target(1.1, "nsd"), Target(7, "coredns", less=True))
    measured = queries.mix(cluster, _lines(run))
    _throughput(run, "mix", ALL, measured, queries.warm_mix(cluster), targets)


def external(run: Run) -> None:
    """Measures CPU per answer for A queries of external names that are in the cache."""
    targets = (Target(1.1, "unbound"), Target(3, "coredns", less=True))
    measured = queries.external(_lines(run))
    _throughput(run, "external", ("unbound", "dnsmasq", "coredns"), measured, queries.every_external(), targets)


def miss(run: Run) -> None:
    """Measures CPU per answer for A queries of nonexistent names, each name once."""
    rows = [run.row("miss", CPU, "µs", Target(10), Target(1.5, "nsd")), run.row("miss", "answers", "1/s")]
    parts, load = run.parts(rows), run.load()
    for number in run.rounds("miss"):
        for kind, (part, disturbance) in enumerate(parts):
            names = queries.misses(MAX_RATE * load.seconds or 2_000, f"round{number}-{kind}")
            path = run.queries("miss", names)
            for server in servers_of(run, ALL):
                with run.catching_failures("miss", server.name), disturbance():
                    measure(run, server, load, path, 1.0, part)


def _lines(run: Run) -> int:
    return 2_000 if run.options.smoke else LINES


def hits_of(run: Run, cluster: Cluster) -> Queries:
    """Returns A queries of random Services of a cluster; fewer of them in a smoke run."""
    return queries.hits(cluster, _lines(run))


def servers_of(run: Run, names: Iterable[str]) -> list[Server]:
    """Returns svcdns and the shared servers with these names. Starts the servers if necessary."""
    taking_part = run.peers(*names)
    return [server for server in run.shared_servers().servers.values() if server.name in taking_part]


def write_files(run: Run, scenario: str, measured: Queries, warm: Queries) -> tuple[Path, Path]:
    """Writes the measured queries, and the queries that fill the caches, to files for dnsperf. Returns their paths."""
    return run.queries(scenario, measured.lines), run.queries(f"{scenario}-warm", warm.lines)


def _throughput(
    run: Run,
    scenario: str,
    peers: Iterable[str],
    measured: Queries,
    warm: Queries,
    targets: tuple[Target, ...],
) -> None:
    rows = [run.row(scenario, CPU, "µs", *targets), run.row(scenario, "answers", "1/s")]
    parts = run.parts(rows)
    measured_file, warm_file = write_files(run, scenario, measured, warm)
    for _ in run.rounds(scenario):
        for server in servers_of(run, peers):
            with run.catching_failures(scenario, server.name):
                run.warm(server, warm_file)
                for part, disturbance in parts:
                    with disturbance():
                        measure(run, server, run.load(), measured_file, measured.nxdomain, part)


def measure(run: Run, server: Server, load: Load, path: Path, nxdomain: float, rows: Iterable[Row]) -> None:
    """Runs dnsperf once against a server, and adds the results to the rows of the results table.

    The first row gets the CPU time per answer. The second row, if there is one, gets the answers per second.
    """
    before = server.cpu()
    figures = run.run_load(server, load, path)
    cpu = server.cpu() - before
    run.check(figures, nxdomain)
    for row, figure in zip(rows, (cpu / figures.completed * 1e6, figures.rate), strict=False):
        row.add(server.name, figure)
