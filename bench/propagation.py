"""Measures the time until a new server is ready, and the time until a change at the API server is in the answers."""

from __future__ import annotations

import random
import time
from contextlib import closing

from bench import change_stamps
from bench.client import Client, has_address, make_query
from bench.cluster import Cluster
from bench.control_group import CpuGroup
from bench.dnsperf import BrokenError
from bench.open_loop import percentile
from bench.processes import cpu_seconds_since_start
from bench.results import OURS, Target
from bench.run import Run, gc_disabled
from bench.servers import Server

CHANGES = 200
BURST = 1_000
IN_FLIGHT = 64
"""Outstanding queries during a burst."""

TIMEOUT = 10.0
SLOW = 0.1
"""The share of a CPU that svcdns's Deployment requests (100m), as a limit."""


def start(run: Run) -> None:
    """Measures the time from exec to /ready and to the first correct answer, the CPU time of a start, and a slow CPU.

    The first measurement has 10 endpoints for each Service. The other two have an empty cluster.
    """
    cluster, empty = Cluster(run.options.services, 10), Cluster(0)
    row = run.row("start", f"to ready, {cluster.services:,} × 10", "s", Target(1.2))
    for _ in run.rounds("start"):
        for name in run.peers("nsd", "knot", "unbound", "dnsmasq", "coredns"):
            with run.catching_failures("start", name), run.server_group(cluster, [name]) as server_group:
                row.add(name, server_group.started[name])
    row = run.row("start", "CPU to ready, empty cluster", "s", Target(0.5))
    for _ in run.rounds("start, empty cluster"):
        for name in run.peers("coredns"):
            with run.catching_failures("start", name), run.server_group(empty, [name]) as server_group:
                row.add(name, cpu_seconds_since_start(server_group.servers[name].process.pid))
    with CpuGroup(SLOW) as group:
        if group.path is None:
            run.progress("leaving out a start with 100m of CPU: no permission to create a control group\n")
            return
        row = run.row("start", "to ready, empty cluster, 100m of CPU", "s", Target(5))
        for _ in run.rounds("start, 100m of CPU"):
            for name in run.peers(*(() if run.options.smoke else ("coredns",))):
                with (
                    run.catching_failures("start", name),
                    run.server_group(empty, [name], prefix=group.prefix) as server_group,
                ):
                    row.add(name, server_group.started[name])


def change(run: Run) -> None:
    """Measures the time from the change of an endpoint to the new answer: for single changes, and for a burst of
    1,000.
    """
    limits = {"p50": (0.5, Target(1.5)), "p95": (0.95, Target(2.5))}
    rows = {label: run.row("change", f"to answer, {label}", "ms", limits[label][1]) for label in limits}
    burst = run.row("change", "burst of 1,000, all visible", "ms", Target(100))
    count, many = (20, 50) if run.options.smoke else (CHANGES, BURST)
    steps = (*change_stamps.STEPS, "answered") if run.options.stamps else ()
    stamped = [run.row("change", f"step to {step}, p50", "µs") for step in steps]
    cluster = Cluster(run.options.services * 10 if run.options.smoke else run.options.services)
    with (
        change_stamps.stamping(run.folder / "stamps", on=run.options.stamps) as stamps,
        run.server_group(cluster, run.peers("coredns")) as server_group,
    ):
        for number in run.rounds("change"):
            for server in server_group.servers.values():
                with run.catching_failures("change", server.name):
                    rng = random.Random(number)
                    targets = server_group.cluster.headless()
                    with gc_disabled():
                        changes = [_single_change(server, rng.choice(targets)) for _ in range(count)]
                        burst.add(server.name, _burst(server, rng.sample(targets, min(many, len(targets)))) * 1000)
                    delays = [end - begin for begin, end in changes]
                    if stamped and server.name == OURS:
                        for row, seconds in zip(stamped, stamps(changes), strict=True):
                            row.add(server.name, seconds * 1e6)
                    for label, (share, _) in limits.items():
                        rows[label].add(server.name, percentile(delays, share) * 1000)


def _single_change(server: Server, number: int) -> tuple[float, float]:
    """Changes the only endpoint of a Service, and waits until a response has the new address.

    Returns the times of begin and end.
    """
    query = make_query(server.config.cluster.fqdn(number))
    with closing(Client(server.port)) as client:
        client.query(query)
        begin = time.monotonic()
        [address] = server.api.request(f"change {number}")
        while not has_address(client.query(query), address):
            if time.monotonic() - begin > TIMEOUT:
                raise BrokenError(f"{server.name}: no response has the change of Service {number}")
        return begin, time.monotonic()


def _burst(server: Server, numbers: list[int]) -> float:
    """Changes an endpoint of each Service in `numbers`. Returns the seconds until responses had all new addresses."""
    cluster = server.config.cluster
    with closing(Client(server.port, 0.2)) as client:
        for number in numbers:
            client.query(make_query(cluster.fqdn(number)))
        begin = time.monotonic()
        addresses = server.api.request(f"change {' '.join(map(str, numbers))}")
        pairs = enumerate(zip(numbers, addresses, strict=True))
        pending = {ident: (make_query(cluster.fqdn(number), "A", ident), address) for ident, (number, address) in pairs}
        while pending:
            if time.monotonic() - begin > TIMEOUT:
                raise BrokenError(f"{server.name}: no response has {len(pending)} of {len(numbers)} changes")
            _query_pending(client, pending)
        return time.monotonic() - begin


def _query_pending(client: Client, pending: dict[int, tuple[bytes, str]]) -> None:
    """Queries the names in `pending`, IN_FLIGHT at a time. Removes each name whose response has the new address."""
    queries = list(pending.values())
    for first in range(0, len(queries), IN_FLIGHT):
        batch = queries[first : first + IN_FLIGHT]
        for query, _ in batch:
            client.socket.send(query)
        for _ in batch:
            try:
                reply = client.socket.recv(4096)
            except TimeoutError:
                break
            ident = int.from_bytes(reply[:2])
            if ident in pending and has_address(reply, pending[ident][1]):
                del pending[ident]
