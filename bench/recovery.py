"""How soon answers are right again after a fault of the API server: `python -m bench.recovery [FAULT...]`.

svcdns, and CoreDNS where the environment variable COREDNS names its binary, each watch an API server of the bench. It has a fault for
some seconds; at the moment it is well again the endpoint of a headless Service moves, and what is measured is the time from then to
the first answer with the new address. Servers are started anew for each figure, since what they wait after a fault depends on the
ones before. Both kinds of list are offered in turn: streamed (a watch with initial events) and plain. It prints a table in Markdown:
the median of the rounds in seconds, and the worst.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from bench import machine, peers
from bench.asking import Asker, holds, packet
from bench.cluster import Cluster
from bench.servers import Cores, Server, Stage

AT_ONCE = ("cut", "410-event", "410-http")
"""Faults that are over when they have happened."""

FAULTS = {
    "cut": "watches cut",
    "410-event": "410, told in the watch",
    "410-http": "410, told to the next watch",
    "500": "500 to all requests",
    "429": "429 to all requests",
    "401": "401 to all requests",
    "403": "403 to all requests",
    "refused": "connections refused",
    "half-open": "connections on which nothing arrives any more",
}
LISTS = {"streamed": True, "plain": False}
SETTLED = 3.0
"""Seconds of rest before the fault, and from one look at the watches to the next."""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    faults: Sequence[str]
    rounds: int
    seconds: float
    services: int
    patience: float
    at_once: int


@dataclass(frozen=True)
class Figure:
    """One measurement to make."""

    fault: str
    lists: str
    server: str


def measure(figure: Figure, options: Options) -> float:
    """Seconds until the answer is right; infinite where the patience ended first."""
    every = sorted(os.sched_getaffinity(0))
    with Stage(Cluster(options.services), [figure.server], Cores(every, every), streams=LISTS[figure.lists]) as stage:
        server = stage.servers[figure.server]
        while not server.watching():
            time.sleep(0.05)
        time.sleep(SETTLED)
        server.api.ask(f"break {figure.fault}")
        if figure.fault not in AT_ONCE:
            time.sleep(options.seconds)
        return _until_right(server, options.patience)


def _until_right(server: Server, patience: float) -> float:
    number = server.site.cluster.headless()[3]
    question = packet(server.site.cluster.fqdn(number))
    with closing(Asker(server.port, 0.5)) as asker:
        begin = time.monotonic()
        address = server.api.ask(f"mend {number}")
        while not holds(asker.ask(question), address):
            if time.monotonic() - begin > patience:
                return float("inf")
            time.sleep(0.005)
        return time.monotonic() - begin


def table(options: Options, servers: Sequence[str], found: dict[Figure, list[float]]) -> str:
    """The figures in Markdown."""
    columns = [(server, lists) for server in servers for lists in LISTS]
    lines = ["| Fault | " + " | ".join(f"{server}, {lists}" for server, lists in columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for fault in options.faults:
        cells = [_cell(found[Figure(fault, lists, server)], options.patience) for server, lists in columns]
        lines.append(f"| {FAULTS[fault]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(figures: list[float], patience: float) -> str:
    median, worst = (f"{value:.2f}" if value <= patience else f"> {patience:.0f}" for value in (statistics.median(figures), max(figures)))
    return median if len(figures) == 1 or median == worst else f"{median} ({worst})"


def main(arguments: list[str] | None = None) -> int:
    """Measures; prints the table."""
    options = options_of(arguments)
    servers = [name for name in peers.WATCHERS if not peers.missing(name)]
    wanted = [Figure(fault, lists, server) for fault in options.faults for lists in LISTS for server in servers]
    found: dict[Figure, list[float]] = {figure: [] for figure in wanted}
    jobs = [figure for _ in range(options.rounds) for figure in wanted]
    with ThreadPoolExecutor(options.at_once) as pool:
        for figure, seconds in zip(jobs, pool.map(lambda one: measure(one, options), jobs), strict=True):
            found[figure].append(seconds)
            print(f"{figure.fault}, {figure.lists}, {figure.server}: {seconds:.2f} s", file=sys.stderr, flush=True)
    print(table(options, servers, found))
    facts = machine.facts(servers)
    print(
        f"\n{options.rounds} rounds, faults of {options.seconds:g} s, {options.services:,} Services; {facts['cores']} cores "
        f"({facts['cpu']}), Python {facts['python']}, commit {facts['commit']}, {facts['versions']}"
    )
    return 0


def options_of(arguments: list[str] | None) -> Options:
    """The command line."""
    parser = argparse.ArgumentParser("python -m bench.recovery", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"{', '.join(FAULTS)}; all but the last if none is named")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="that a fault lasts (%(default)s)")
    parser.add_argument("--services", type=int, default=1_000, help="(%(default)s)")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds after which an answer is not waited for (%(default)s)")
    parser.add_argument("--at-once", type=int, default=4, help="measurements at a time; most of each is waiting (%(default)s)")
    chosen = parser.parse_args(arguments)
    unknown = [fault for fault in chosen.faults if fault not in FAULTS]
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}")
    faults = chosen.faults or [fault for fault in FAULTS if fault != "half-open"]
    return Options(faults, chosen.rounds, chosen.seconds, chosen.services, chosen.patience, chosen.at_once)


if __name__ == "__main__":
    sys.exit(main())
