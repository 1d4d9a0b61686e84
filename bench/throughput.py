"""CPU of the servers per answered question, under dnsperf; and on TCP questions per CPU second."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench import questions
from bench.dnsperf import Load
from bench.questions import Questions
from bench.results import Row, Target
from bench.run import Run
from bench.servers import Server

LINES = 100_000
FASTEST = 300_000
"""More questions a second than dnsperf can ask on a core; a miss is asked once, so there must be enough."""

FASTEST_FORWARDED = 60_000
"""The same where an upstream on the asker's core has to answer."""

CPU = "CPU per answer"
ALL = ("nsd", "knot", "unbound", "dnsmasq", "coredns")


def hit(run: Run) -> None:
    """A of a random Service, as fast as answered."""
    targets = (Target(1.5, "nsd"), Target(7, "coredns", less=True))
    _throughput(run, "hit", ALL, _hits(run), _warm_hits(run), targets)


def hit_5k(run: Run) -> None:
    """The same at 5,000 questions a second."""
    _throughput(run, "hit-5k", ALL, _hits(run), _warm_hits(run), (Target(1.4, "nsd"),), rate=5_000)


def hit_20k(run: Run) -> None:
    """The same at 20,000 questions a second."""
    _throughput(run, "hit-20k", ALL, _hits(run), _warm_hits(run), (Target(1.4, "nsd"),), rate=20_000)


def mix(run: Run) -> None:
    """Half A and AAAA of Services, half `ndots:5` walks of outside names."""
    cluster = run.shared().cluster
    targets = (Target(1.5, "nsd"), Target(7, "coredns", less=True))
    asked = questions.mix(cluster, _lines(run))
    _throughput(run, "mix", ALL, asked, questions.warm_mix(cluster), targets)


def external(run: Run) -> None:
    """A of outside names, from the cache."""
    targets = (Target(1.5, "unbound"), Target(3, "coredns", less=True))
    asked = questions.outsiders(_lines(run))
    _throughput(run, "external", ("unbound", "dnsmasq", "coredns"), asked, questions.every_outsider(), targets)


def miss(run: Run) -> None:
    """Names that do not exist and were never asked for."""
    row = run.row("miss", CPU, "µs", Target(10))
    rate = run.row("miss", "answers", "1/s")
    load = run.load()
    for number in run.rounds("miss"):
        path = run.questions("miss", questions.misses(FASTEST * load.seconds or 2_000, f"round{number}"))
        for server in _servers(run, ALL):
            with run.trying("miss", server.name):
                _measure(run, server, load, path, 1.0, (row, rate))


def forward(run: Run) -> None:
    """A of outside names that nobody has asked for before, as fast as answered."""
    _forwarded(run, "forward", 0)


def forward_2k(run: Run) -> None:
    """The same at 2,000 questions a second."""
    _forwarded(run, "forward-2k", 2_000)


def _forwarded(run: Run, scenario: str, rate: int) -> None:
    rows = [run.row(scenario, CPU, "µs", Target(1, "coredns"))]
    if not rate:
        rows.append(run.row(scenario, "answers", "1/s"))
    load = run.load(rate)
    count = 2_000 if run.options.smoke else (rate or FASTEST_FORWARDED) * (load.seconds + 1)
    for _ in run.rounds(scenario):
        for server in _servers(run, ("unbound", "dnsmasq", "coredns")):
            with run.trying(scenario, server.name):
                _measure(run, server, load, run.questions(scenario, questions.strangers(count)), 0.0, rows)


def tcp(run: Run) -> None:
    """A of a random Service on 128 connections that stay open."""
    row = run.row("tcp", "answers per CPU second", "1/s", Target(3, "coredns", at_least=True))
    asked, warm = _files(run, "tcp", _hits(run), _warm_hits(run))
    for _ in run.rounds("tcp"):
        for server in _servers(run, ("nsd", "knot", "coredns")):
            with run.trying("tcp", server.name):
                run.warm(server, warm, tcp=True)
                before = server.cpu()
                figures = run.ask(server, run.load(tcp=True), asked)
                cpu = server.cpu() - before
                run.check(figures, 0.0)
                row.add(server.name, figures.completed / cpu)


def _lines(run: Run) -> int:
    return 2_000 if run.options.smoke else LINES


def _hits(run: Run) -> Questions:
    return questions.hits(run.shared().cluster, _lines(run))


def _warm_hits(run: Run) -> Questions:
    return questions.every_name(run.shared().cluster)


def _servers(run: Run, names: Iterable[str]) -> list[Server]:
    taking_part = run.peers(*names)
    return [server for server in run.shared().servers.values() if server.name in taking_part]


def _files(run: Run, scenario: str, asked: Questions, warm: Questions) -> tuple[Path, Path]:
    return run.questions(scenario, asked.lines), run.questions(f"{scenario}-warm", warm.lines)


def _throughput(
    run: Run, scenario: str, peers: Iterable[str], asked: Questions, warm: Questions, targets: tuple[Target, ...], rate: int = 0
) -> None:
    rows = [run.row(scenario, CPU, "µs", *targets)]
    if not rate:
        rows.append(run.row(scenario, "answers", "1/s"))
    asked_file, warm_file = _files(run, scenario, asked, warm)
    for _ in run.rounds(scenario):
        for server in _servers(run, peers):
            with run.trying(scenario, server.name):
                run.warm(server, warm_file)
                _measure(run, server, run.load(rate), asked_file, asked.absent, rows)


def _measure(run: Run, server: Server, load: Load, path: Path, absent: float, rows: Iterable[Row]) -> None:
    """Asks a server once, and adds CPU per answer, then answers a second, to the rows."""
    before = server.cpu()
    figures = run.ask(server, load, path)
    cpu = server.cpu() - before
    run.check(figures, absent)
    for row, figure in zip(rows, (cpu / figures.completed * 1e6, figures.rate), strict=False):
        row.add(server.name, figure)
