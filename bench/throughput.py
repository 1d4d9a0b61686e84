"""Measures the CPU time of servers per answer, with dnsperf as load. Over TCP, measures answers per CPU second."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench import queries
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

MAX_FORWARDED_RATE = 60_000
"""The same for forwarded queries, where the upstream shares the core with dnsperf."""

CPU = "CPU per answer"
ALL = ("nsd", "knot", "unbound", "dnsmasq", "coredns")


def hit(run: Run) -> None:
    """Measures CPU per answer for A queries of random Services, sent as fast as responses arrive."""
    targets = (Target(1.5, "nsd"), Target(7, "coredns", less=True))
    _throughput(run, "hit", ALL, _hits(run), _warm_hits(run), targets)


def hit_5k(run: Run) -> None:
    """Measures CPU per answer for A queries of random Services, at 5,000 queries a second."""
    _throughput(run, "hit-5k", ALL, _hits(run), _warm_hits(run), (Target(1.4, "nsd"),), rate=5_000)


def hit_20k(run: Run) -> None:
    """Measures CPU per answer for A queries of random Services, at 20,000 queries a second."""
    _throughput(run, "hit-20k", ALL, _hits(run), _warm_hits(run), (Target(1.4, "nsd"),), rate=20_000)


def mix(run: Run) -> None:
    """Measures CPU per answer for A and AAAA queries as Pods send them, half of them for external names.

    External names are queried with each search domain of a Pod. The other queries are for Services.
    """
    cluster = run.shared_servers().cluster
    targets = (Target(1.5, "nsd"), Target(7, "coredns", less=True))
    measured = queries.mix(cluster, _lines(run))
    _throughput(run, "mix", ALL, measured, queries.warm_mix(cluster), targets)


def external(run: Run) -> None:
    """Measures CPU per answer for A queries of external names that are in the cache."""
    targets = (Target(1.5, "unbound"), Target(3, "coredns", less=True))
    measured = queries.external(_lines(run))
    _throughput(run, "external", ("unbound", "dnsmasq", "coredns"), measured, queries.every_external(), targets)


def miss(run: Run) -> None:
    """Measures CPU per answer for A queries of nonexistent names, each name once."""
    row = run.row("miss", CPU, "µs", Target(10))
    rate = run.row("miss", "answers", "1/s")
    load = run.load()
    for number in run.rounds("miss"):
        path = run.queries("miss", queries.misses(MAX_RATE * load.seconds or 2_000, f"round{number}"))
        for server in _servers(run, ALL):
            with run.catching_failures("miss", server.name):
                _measure(run, server, load, path, 1.0, (row, rate))


def forward(run: Run) -> None:
    """Measures CPU per answer for uncached external names (A queries), sent as fast as responses arrive."""
    _forwarded(run, "forward", 0)


def forward_2k(run: Run) -> None:
    """Measures CPU per answer for A queries of external names that are not in the cache, at 2,000 queries a second."""
    _forwarded(run, "forward-2k", 2_000)


def _forwarded(run: Run, scenario: str, rate: int) -> None:
    rows = [run.row(scenario, CPU, "µs", Target(1, "coredns"))]
    if not rate:
        rows.append(run.row(scenario, "answers", "1/s"))
    load = run.load(rate)
    count = 2_000 if run.options.smoke else (rate or MAX_FORWARDED_RATE) * (load.seconds + 1)
    for _ in run.rounds(scenario):
        for server in _servers(run, ("unbound", "dnsmasq", "coredns")):
            with run.catching_failures(scenario, server.name):
                _measure(run, server, load, run.queries(scenario, queries.new_external(count)), 0.0, rows)


def tcp(run: Run) -> None:
    """Measures answers per CPU second for A queries of random Services, over 128 persistent TCP connections."""
    row = run.row("tcp", "answers per CPU second", "1/s", Target(3, "coredns", at_least=True))
    measured, warm = _files(run, "tcp", _hits(run), _warm_hits(run))
    for _ in run.rounds("tcp"):
        for server in _servers(run, ("nsd", "knot", "coredns")):
            with run.catching_failures("tcp", server.name):
                run.warm(server, warm, tcp=True)
                before = server.cpu()
                figures = run.run_load(server, run.load(tcp=True), measured)
                cpu = server.cpu() - before
                run.check(figures, 0.0)
                row.add(server.name, figures.completed / cpu)


def _lines(run: Run) -> int:
    return 2_000 if run.options.smoke else LINES


def _hits(run: Run) -> Queries:
    return queries.hits(run.shared_servers().cluster, _lines(run))


def _warm_hits(run: Run) -> Queries:
    return queries.every_name(run.shared_servers().cluster)


def _servers(run: Run, names: Iterable[str]) -> list[Server]:
    taking_part = run.peers(*names)
    return [server for server in run.shared_servers().servers.values() if server.name in taking_part]


def _files(run: Run, scenario: str, measured: Queries, warm: Queries) -> tuple[Path, Path]:
    return run.queries(scenario, measured.lines), run.queries(f"{scenario}-warm", warm.lines)


def _throughput(
    run: Run,
    scenario: str,
    peers: Iterable[str],
    measured: Queries,
    warm: Queries,
    targets: tuple[Target, ...],
    rate: int = 0,
) -> None:
    rows = [run.row(scenario, CPU, "µs", *targets)]
    if not rate:
        rows.append(run.row(scenario, "answers", "1/s"))
    measured_file, warm_file = _files(run, scenario, measured, warm)
    for _ in run.rounds(scenario):
        for server in _servers(run, peers):
            with run.catching_failures(scenario, server.name):
                run.warm(server, warm_file)
                _measure(run, server, run.load(rate), measured_file, measured.nxdomain, rows)


def _measure(run: Run, server: Server, load: Load, path: Path, nxdomain: float, rows: Iterable[Row]) -> None:
    """Runs dnsperf once against a server, and adds the results to the rows of the results table.

    The first row gets the CPU time per answer, and the second row, if there is one, the answers per second.
    """
    before = server.cpu()
    figures = run.run_load(server, load, path)
    cpu = server.cpu() - before
    run.check(figures, nxdomain)
    for row, figure in zip(rows, (cpu / figures.completed * 1e6, figures.rate), strict=False):
        row.add(server.name, figure)
