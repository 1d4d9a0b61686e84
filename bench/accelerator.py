"""Measures the accelerator beside other servers: `python -m bench.accelerator [--markdown FILE]`.

All servers run in a network namespace on one core, one after the other in each round. The clients are in another
namespace, on another core. Packets between them pass a pair of virtual interfaces, and each interface receives on the
core of its namespace. The CPU time is that of the servers' core, with software interrupts, less the time that the core
uses at rest.

The servers:

- `svcdns`: with the accelerator. `svcdns accelerate` has the capabilities BPF and NET_ADMIN and no others.
- `without`: svcdns without the accelerator.
- `nsd`, and `coredns` if the environment variable COREDNS names its binary.
- `echo`: a program in the kernel that sends each query back, and looks nothing up.

The command needs root, dnsperf and a C compiler. Useful figures need an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Final

from bench import machine, peers
from bench.accelerator_race import why_unavailable
from bench.accelerator_servers import ECHO, OURS, STATISTICS, WITHOUT, Measured, Servers, make_network, spread
from bench.client import write_queries
from bench.cluster import EXTERNAL_NAMES, NAMESPACES, Cluster
from bench.control_group import CpuGroup
from bench.dnsperf import BrokenError
from bench.processes import kill_tree, spawn, tree
from bench.queries import every_name, hits, misses, search_path
from bench.results import Row, Target, evaluate, number
from bench.servers import Cores

ALL: Final = (OURS, WITHOUT, "nsd", "coredns", ECHO)
LINES: Final = 100_000
RATES: Final = {5_000: "5,000 a second", 20_000: "20,000 a second", 0: "as many as possible"}
"""Queries a second; 0 means that the next query is sent when a reply arrives."""
QUOTA: Final = 0.1
"""The CPU limit of the last scenario: 100m."""
WARM: Final = 15
"""Before a measurement, all queries are sent up to this many times, until the kernel answers them."""
MIX_SERVICES: Final = 3_000
MIX_NAMESPACES: Final = 3
MIX_NXDOMAIN: Final = 6 / 16
CORE: Final = "CPU of the core per answer"


@dataclass
class Run:
    """One run: its servers, the files of queries, and the rows of the results."""

    servers: Servers
    seconds: float
    rounds: int
    rows: list[Row] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def row(self, scenario: str, measure: str, unit: str, *targets: Target) -> Row:
        """Returns the row of this name. Adds the row at the first call."""
        for row in self.rows:
            if (row.scenario, row.measure) == (scenario, measure):
                return row
        self.rows.append(Row(scenario, measure, unit, targets=targets))
        return self.rows[-1]

    def each(self, scenario: str, *names: str) -> Iterator[Measured]:
        """Yields the servers with these names that take part, and prints a line of progress for each server."""
        for name in names:
            if name in self.servers.measured:
                self.progress(f"{scenario}: {name}")
                yield self.servers.measured[name]

    @contextmanager
    def catching(self, scenario: str, name: str) -> Iterator[None]:
        """Catches the failure of one server, so that the others are still measured."""
        try:
            yield
        except (BrokenError, TimeoutError) as error:
            self.broken.append(f"{scenario}, {name}: {error}")
            self.progress(self.broken[-1])

    def progress(self, text: str) -> None:
        """Prints a line on standard error."""
        print(f"[{time.monotonic() - self.begun:4.0f} s] {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Names:
    """Queries of a scenario: a file with each query once, and a file with the measured queries."""

    scenario: str
    warm: Path
    measured: Path
    nxdomain: float


def mix(cluster: Cluster, count: int) -> tuple[list[str], list[str]]:
    """Returns every query of the mix once, and `count` queries in random order.

    As in `bench.queries.mix`, half of the queries are for Services and half for external names with search domains.
    The number of different queries fits into the memory of the accelerator.
    """
    rng = random.Random(5)
    chosen = rng.sample(range(cluster.services), min(MIX_SERVICES, cluster.services))
    names = [cluster.fqdn(number) for number in chosen]
    walks = [
        search_path(number, (number + space) % NAMESPACES)
        for number in range(EXTERNAL_NAMES)
        for space in range(MIX_NAMESPACES)
    ]
    lines: list[str] = []
    while len(lines) < count:
        for name in rng.choices(names, k=4):
            lines += (f"{name} A", f"{name} AAAA")
        lines += rng.choice(walks)
    every = [f"{name} {rtype}" for name in names for rtype in ("A", "AAAA")] + [line for walk in walks for line in walk]
    return list(dict.fromkeys(every)), lines


def warm(run: Run, measured: Measured, names: Names) -> None:
    """Sends all queries until the server's caches have the replies.

    With the accelerator: until the kernel sends nearly all replies.
    """
    if measured.server is None:
        return
    for _ in range(3):
        run.servers.run_load(measured, names.warm, 0)
    if measured.name == OURS:
        before = run.servers.replies_from_the_kernel()
        for _ in range(WARM):
            sent = run.servers.run_load(measured, names.warm, 0).completed
            before, replies = (found := run.servers.replies_from_the_kernel()), found - before
            if replies > 0.99 * sent:
                break
            time.sleep(1.1)  # once a second, the worker makes room for names that are used
    time.sleep(0.5)


def rates(run: Run, names: Names, rate: int, *servers: str) -> None:
    """Measures CPU time and latencies of each server at one rate."""
    label = RATES[rate]
    share = {5_000: 1 / 4, 20_000: 1 / 4, 0: 1 / 3}[rate] if names.scenario == "hit" else 1 / 2
    cpu = run.row(names.scenario, f"{CORE}, {label}", "µs", Target(round(share, 3), "nsd"))
    for measured in run.each(f"{names.scenario}, {label}", *servers):
        with run.catching(names.scenario, measured.name):
            warm(run, measured, names)
            run.servers.core.measure_rest(1)
            before = run.servers.replies_from_the_kernel() if measured.name == OURS else 0.0
            begin = run.servers.core.now()
            if rate:
                answered = paced(run, measured, names, rate)
            else:
                figures = run.servers.run_load(measured, names.measured, run.seconds)
                answered = figures.completed
                run.row(names.scenario, "answers, as many as possible", "1/s").add(measured.name, figures.rate)
            cpu.add(measured.name, run.servers.core.since(begin) / answered * 1e6)
            if measured.name == OURS:
                sent = run.servers.replies_from_the_kernel() - before
                run.row(names.scenario, f"replies from the kernel, {label}", "%").add(OURS, 100 * sent / answered)


def paced(run: Run, measured: Measured, names: Names, rate: int, scenario: str = "") -> int:
    """Sends queries at even intervals, and adds their latencies to the rows. Returns the number of answers."""
    figures = run.servers.run_pace(measured, names.measured, rate, run.seconds)
    if figures.lost > figures.sent / 100 or not figures.answered:
        raise BrokenError(f"{figures.lost} of {figures.sent} queries were lost")
    if measured.server is not None:
        share = figures.codes["NXDOMAIN"] / figures.answered
        if abs(share - names.nxdomain) > 0.01 or figures.codes["SERVFAIL"] or figures.codes["REFUSED"]:
            raise BrokenError(f"wrong response codes: {figures.codes}")
    targets: dict[str, tuple[Target, ...]] = {}
    if scenario == "100m":
        targets["p99.9"] = (Target(0.1, WITHOUT),)
    elif scenario == "beside a CPU hog":
        targets["p99.9"] = (Target(2, ECHO),)
    elif names.scenario == "hit" and rate == 5_000:
        targets = {"p99": (Target(0.667, "nsd"),), "p99.9": (Target(2, ECHO),)}
    where = scenario or names.scenario
    suffix = "" if scenario else f", {RATES[rate]}"
    for label, figure in (("p50", figures.p50), ("p99", figures.p99), ("p99.9", figures.p999)):
        run.row(where, f"latency {label}{suffix}", "µs", *targets.get(label, ())).add(measured.name, figure)
    return figures.answered


def beside_hog(run: Run, names: Names) -> None:
    """Measures latencies at 5,000 queries a second while another process always uses the servers' core."""
    scenario = "beside a CPU hog"
    for measured in run.each(scenario, *ALL):
        with run.catching(scenario, measured.name):
            warm(run, measured, names)
            hog = spawn(["sh", "-c", "while :; do :; done"], run.servers.cores.server)
            try:
                paced(run, measured, names, 5_000, scenario)
            finally:
                kill_tree(hog)


def limited(run: Run, names: Names) -> None:
    """Measures latencies at 5,000 queries a second while each server may use a tenth of a CPU."""
    scenario = "100m"
    for measured in run.each(scenario, *(name for name in ALL if name != ECHO)):
        with run.catching(scenario, measured.name), CpuGroup(QUOTA) as group:
            if group.path is None:
                run.progress("leaving out 100m: no permission to create a control group")
                return
            warm(run, measured, names)
            assert measured.server is not None
            processes = tree(measured.server.process.pid)
            for pid in processes:
                group.add(pid)
            try:
                paced(run, measured, names, 5_000, scenario)
            finally:
                for pid in processes:
                    group.remove(pid)


def program(run: Run, names: Names, folder: Path) -> None:
    """Measures the program's time for a packet that it answers, and for a packet that it passes on.

    The kernel itself measures this time.
    """
    unknown = write_queries(folder / "unknown", misses(LINES, f"{time.time()}"))
    kinds = (("answered", names.measured, ()), ("passed on", unknown, (Target(500),)))
    for measured, (label, path, targets) in product(run.each("program", OURS), kinds):
        row = run.row("program", f"time for a packet that is {label}", "ns", *targets)
        with run.catching("program", OURS):
            warm(run, measured, names)
            before = STATISTICS.read_text()
            STATISTICS.write_text("1")
            try:
                begin = run.servers.program_statistics()
                run.servers.run_pace(measured, path, 5_000, min(run.seconds, 2))
                end = run.servers.program_statistics()
            finally:
                STATISTICS.write_text(before)
            row.add(OURS, (end[0] - begin[0]) / max(1, end[1] - begin[1]))


def measure(run: Run, cluster: Cluster) -> None:
    """Runs all rounds."""
    folder = run.servers.folder
    every, lines = mix(cluster, LINES)
    hit = Names(
        "hit",
        write_queries(folder / "hit-warm", [line for line in every_name(cluster).lines if line.endswith(" A")]),
        write_queries(folder / "hit", hits(cluster, LINES).lines),
        0.0,
    )
    mixed = Names("mix", write_queries(folder / "mix-warm", every), write_queries(folder / "mix", lines), MIX_NXDOMAIN)
    for turn in range(run.rounds):
        run.progress(f"round {turn + 1} of {run.rounds}")
        for rate in RATES:
            rates(run, hit, rate, *ALL)
        beside_hog(run, hit)
        limited(run, hit)
        program(run, hit, folder)
        for rate in RATES:
            rates(run, mixed, rate, OURS, WITHOUT, "nsd")


def markdown(run: Run) -> str:
    """Returns the results as a table in Markdown, with the targets."""
    names = [name for name in ALL if name in run.servers.measured]
    titles = {OURS: "svcdns", WITHOUT: "svcdns without", "nsd": "NSD", "coredns": "CoreDNS"}
    lines = [["Scenario", "Measure", *(titles.get(name, name) for name in names), "Target"]]
    lines.append(["---"] * len(lines[0]))
    for row in run.rows:
        verdicts = "; ".join(verdict.text() for verdict in evaluate(row, run.rows))
        figures = [number(row.median(name)).replace("-", "–") for name in names]
        lines.append([row.scenario, f"{row.measure}, {row.unit}", *figures, verdicts])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m bench.accelerator", description=(__doc__ or "").partition("\n")[0])
    made.add_argument("--seconds", type=float, default=4.0, help="seconds of each load")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--services", type=int, default=10_000)
    made.add_argument("--servers", default=",".join(ALL), help="the servers to measure")
    made.add_argument("--markdown", metavar="FILE", help="write the table to this file")
    made.add_argument("--json", metavar="FILE", help="write all figures to this file")
    return made


def taking_part(wanted: Sequence[str]) -> list[str]:
    """Returns the servers that this machine can run. Prints one line for each other server."""
    found = []
    for name in wanted:
        reason = "" if name in (WITHOUT, ECHO) else peers.why_unavailable(name)
        if reason:
            print(f"bench: leaving out {name}: {reason}", file=sys.stderr)
        else:
            found.append(name)
    return found


def main() -> int:
    """Runs the measurement and prints the table. Returns the exit code."""
    options = parser().parse_args()
    if reason := why_unavailable():
        print(f"bench: {reason}", file=sys.stderr)
        return 2
    cores, cluster = Cores((0,), (1,)), Cluster(options.services)
    names = taking_part(options.servers.split(","))
    os.sched_setaffinity(0, cores.client)
    with make_network() as network:
        spread(network, cores)
        with network["server"].entered(), Servers(network, cluster, names, cores) as servers:
            run = Run(servers, options.seconds, options.rounds)
            measure(run, cluster)
            text = markdown(run)
    print(text)
    for line in run.broken:
        print(f"\nBROKEN {line}")
    if options.markdown:
        Path(options.markdown).write_text(text + "\n")
    if options.json:
        Path(options.json).write_text(json.dumps(report(run, names), indent=1) + "\n")
    return 1 if run.broken else 0


def report(run: Run, names: Sequence[str]) -> dict[str, object]:
    """Returns the machine and all figures, for the JSON file."""
    rows = [{"scenario": row.scenario, "measure": row.measure, "unit": row.unit, **row.figures} for row in run.rows]
    return {"machine": machine.environment(list(names)), "rows": rows, "broken": run.broken}


if __name__ == "__main__":
    sys.exit(main())
