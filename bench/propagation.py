"""Measures the time until a new server is ready, and the time until a change at the API server is in the answers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext

from bench import change_stamps, pacing
from bench.client import Client, has_address, make_query
from bench.cluster import Cluster
from bench.control_group import CpuGroup
from bench.dnsperf import BrokenError
from bench.open_loop import percentile
from bench.processes import cpu_seconds_since_start
from bench.results import OURS, Target
from bench.run import Run, gc_disabled
from bench.servers import Server
from bench.throughput import hits_of

CHANGES = 60
PAUSE = 0.05
"""Seconds between two changes, on average."""
BURST = 1_000
IN_FLIGHT = 64
"""Outstanding queries during a burst."""

SMALL = 1_000
"""The Services of the smaller cluster of `change`."""
RATE = 20_000
"""Queries a second, in addition to the queries of the measurement."""
LOADED = f", at {RATE:,} queries a second"
LEAD = 0.2
"""Seconds of these queries before the first change."""
LONGEST = 120.0
"""The most seconds of these queries."""

LOST = 0.2
"""Seconds after which a query is sent again."""
TIMEOUT = 10.0
SLOW = 0.1
"""The share of a CPU that svcdns's Deployment requests (100m), as a limit."""

Medians = Callable[[list[change_stamps.Change]], list[float]]
"""The function that `change_stamps.stamping` yields."""


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
    """Measures the time from the change of an endpoint to the new answer, and of 1,000 changes at once.

    Single changes are measured in two sizes of cluster, each without other queries and with RATE queries a second.
    """
    services = run.options.services
    sizes = [services * 10] if run.options.smoke else sorted({min(SMALL, services), services})
    for size in sizes:
        rows = _ChangeRows(run, size, largest=size == sizes[-1])
        with (
            change_stamps.stamping(run.folder / f"stamps-{size}", on=run.options.stamps) as stamps,
            run.server_group(Cluster(size), run.peers("coredns")) as server_group,
        ):
            for number in run.rounds(f"change, {size:,} Services"):
                for server in server_group.servers.values():
                    with run.catching_failures("change", server.name):
                        _measure_changes(run, server, random.Random(number), rows, stamps)


class _ChangeRows:
    """The rows of the results for one size of cluster. Only those of the largest cluster have the burst and steps."""

    def __init__(self, run: Run, size: int, *, largest: bool) -> None:
        loads = [""] if pacing.why_unavailable() else ["", LOADED]
        limit = Target(1, "coredns")
        self.delays = {
            load: {
                share: run.row("change", f"to answer, {size:,} Services{load}, {label}", "ms", limit)
                for label, share in (("p50", 0.5), ("p95", 0.95))
            }
            for load in loads
        }
        self.burst = run.row("change", f"burst of {BURST:,}, all visible", "ms", limit) if largest else None
        steps = (*change_stamps.STEPS, "answered") if largest and run.options.stamps else ()
        self.steps = [run.row("change", f"step to {step}, p50", "µs") for step in steps]


def _measure_changes(run: Run, server: Server, rng: random.Random, rows: _ChangeRows, stamps: Medians) -> None:
    targets = server.config.cluster.headless()
    count, many = (10, 50) if run.options.smoke else (CHANGES, BURST)
    for load, by_share in rows.delays.items():
        with gc_disabled(), _queries(run, server) if load else nullcontext():
            changes = []
            for _ in range(count):
                time.sleep(PAUSE * (0.5 + rng.random()))
                changes.append(_single_change(server, rng.choice(targets)))
        delays = [end - begin for begin, end in changes]
        for share, row in by_share.items():
            row.add(server.name, percentile(delays, share) * 1000)
        if rows.steps and server.name == OURS and not load:
            for row, seconds in zip(rows.steps, stamps(changes), strict=True):
                row.add(server.name, seconds * 1e6)
    if rows.burst is not None:
        with gc_disabled():
            rows.burst.add(server.name, _burst(server, rng.sample(targets, min(many, len(targets)))) * 1000)


@contextmanager
def _queries(run: Run, server: Server) -> Iterator[None]:
    """Context manager that sends A queries for random Services to a server, RATE a second.

    Raises BrokenError if most of them were lost.
    """
    path = run.queries("change", hits_of(run, server.config.cluster).lines)
    process = run.start_pace(server, run.pace(RATE, LONGEST, "open"), path)
    try:
        time.sleep(LEAD)
        yield
    finally:
        process.terminate()
        figures = pacing.finish(process)
    pacing.check(figures, lost=0.5)


def _single_change(server: Server, number: int) -> tuple[float, float]:
    """Changes the only endpoint of a Service, and waits until a response has the new address.

    Returns the times of begin and end.
    """
    query = make_query(server.config.cluster.fqdn(number))
    with closing(Client(server.port, LOST)) as client:
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
    with closing(Client(server.port, LOST)) as client:
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
