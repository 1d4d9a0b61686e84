"""The time until answers are correct again after a fault of the API server: `python -m bench.recovery [FAULT...]`.

svcdns is measured, and CoreDNS if the environment variable COREDNS names its binary. Each server has its own API server
(`bench.api`). When the fault ends, the endpoint of a headless Service changes. The figure is the time from the end of
the fault until the first answer with the new address. Each measurement starts new servers. The table has the median and
the maximum of the rounds in seconds.
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
from bench.client import Client, has_address, make_query
from bench.cluster import Cluster
from bench.servers import Cores, Server, ServerGroup

INSTANT_FAULTS = ("cut", "410-event", "410-http")
"""Faults without a duration."""

FAULTS = {
    "cut": "watches closed",
    "410-event": "410 as a watch event",
    "410-http": "410 to the next watch request",
    "500": "500 to all requests",
    "429": "429 to all requests",
    "401": "401 to all requests",
    "403": "403 to all requests",
    "refused": "connections refused",
    "half-open": "half-open connections",
}
LISTS = {"streamed": True, "plain": False}
SETTLED = 3.0
"""Seconds of rest before the fault, and between two checks of the watches."""


@dataclass(frozen=True)
class Options:
    """The options of `python -m bench.recovery`, from its command line."""

    faults: Sequence[str]
    rounds: int
    seconds: float
    services: int
    timeout: float
    parallel: int


@dataclass(frozen=True)
class Measurement:
    """One measurement: the fault of the API server, the kind of its lists (a key of LISTS), and the server."""

    fault: str
    lists: str
    server: str


def measure(measurement: Measurement, options: Options) -> float:
    """Starts a server, makes the fault of the API server, and changes an endpoint at its end.

    Returns the seconds from the end of the fault until a response has the new address, or infinity after the timeout.
    """
    every = sorted(os.sched_getaffinity(0))
    with ServerGroup(
        Cluster(options.services), [measurement.server], Cores(every, every), streams=LISTS[measurement.lists]
    ) as server_group:
        server = server_group.servers[measurement.server]
        while not server.watching():
            time.sleep(0.05)
        time.sleep(SETTLED)
        server.api.request(f"break {measurement.fault}")
        if measurement.fault not in INSTANT_FAULTS:
            time.sleep(options.seconds)
        return _until_right(server, options.timeout)


def _until_right(server: Server, timeout: float) -> float:
    number = server.config.cluster.headless()[3]
    query = make_query(server.config.cluster.fqdn(number))
    with closing(Client(server.port, 0.5)) as client:
        begin = time.monotonic()
        address = server.api.request(f"repair {number}")
        while not has_address(client.query(query), address):
            if time.monotonic() - begin > timeout:
                return float("inf")
            time.sleep(0.005)
        return time.monotonic() - begin


def table(options: Options, servers: Sequence[str], found: dict[Measurement, list[float]]) -> str:
    """Returns the recovery times as a Markdown table, with a line for each fault."""
    columns = [(server, lists) for server in servers for lists in LISTS]
    lines = [
        "| Fault | " + " | ".join(f"{server}, {lists}" for server, lists in columns) + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for fault in options.faults:
        cells = [_cell(found[Measurement(fault, lists, server)], options.timeout) for server, lists in columns]
        lines.append(f"| {FAULTS[fault]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(figures: list[float], timeout: float) -> str:
    median, worst = (
        f"{value:.2f}" if value <= timeout else f"> {timeout:.0f}"
        for value in (statistics.median(figures), max(figures))
    )
    return median if len(figures) == 1 or median == worst else f"{median} ({worst})"


def main(argv: list[str] | None = None) -> int:
    """Runs all measurements and prints the table of recovery times."""
    options = options_of(argv)
    servers = [name for name in peers.WATCHERS if not peers.why_unavailable(name)]
    wanted = [Measurement(fault, lists, server) for fault in options.faults for lists in LISTS for server in servers]
    found: dict[Measurement, list[float]] = {measurement: [] for measurement in wanted}
    jobs = [measurement for _ in range(options.rounds) for measurement in wanted]
    with ThreadPoolExecutor(options.parallel) as pool:
        for measurement, seconds in zip(jobs, pool.map(lambda one: measure(one, options), jobs), strict=True):
            found[measurement].append(seconds)
            print(
                f"{measurement.fault}, {measurement.lists}, {measurement.server}: {seconds:.2f} s",
                file=sys.stderr,
                flush=True,
            )
    print(table(options, servers, found))
    environment = machine.environment(servers)
    print(
        f"\n{options.rounds} rounds, faults of {options.seconds:g} s, {options.services:,} Services; {environment['cores']} cores "
        f"({environment['cpu']}), Python {environment['python']}, commit {environment['commit']}, {environment['versions']}"
    )
    return 0


def options_of(argv: list[str] | None) -> Options:
    """Parses the command line. Exits with a message if a fault is unknown."""
    parser = argparse.ArgumentParser(
        "python -m bench.recovery", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"{', '.join(FAULTS)}; default: all but the last")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of a fault (%(default)s)")
    parser.add_argument("--services", type=int, default=1_000, help="(%(default)s)")
    parser.add_argument(
        "--timeout", type=float, default=120.0, help="seconds until a measurement is ended (%(default)s)"
    )
    parser.add_argument("--parallel", type=int, default=4, help="measurements at a time (%(default)s)")
    arguments = parser.parse_args(argv)
    unknown = [fault for fault in arguments.faults if fault not in FAULTS]
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}")
    faults = arguments.faults or [fault for fault in FAULTS if fault != "half-open"]
    return Options(
        faults, arguments.rounds, arguments.seconds, arguments.services, arguments.timeout, arguments.parallel
    )


if __name__ == "__main__":
    sys.exit(main())
