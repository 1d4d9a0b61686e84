"""Measures CPU per answer for clusters of several sizes, before and after a million changes, and with two workers."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

from bench import queries
from bench.client import Client, has_address, make_query
from bench.cluster import Cluster
from bench.dnsperf import BrokenError
from bench.processes import tree, until
from bench.results import OURS, Target
from bench.run import Run
from bench.servers import Cores, Server
from bench.throughput import CPU, LINES

FLOWS = 128
MANY = 8
"""The workers on all cores; with fewer cores than workers, they compete with each other and with dnsperf."""
SIZES = (100, 1_000, 10_000, 100_000)


def growth(run: Run) -> None:
    """Measures CPU per answer with clusters of 100 to 100,000 Services."""
    sizes = (100, 1_000) if run.options.smoke else SIZES
    rows = {}
    for size in sizes:
        targets = (Target(1.1, of=f"{CPU}, {sizes[0]:,}"),) if size != sizes[0] else ()
        rows[size] = run.row("growth", f"{CPU}, {size:,}", "µs", *targets)
    with ExitStack() as server_groups:
        servers = []
        for size in sizes:
            run.progress(f"growth: a cluster of {size:,}")
            servers += [
                (size, one)
                for one in server_groups.enter_context(
                    run.server_group(Cluster(size), run.peers("nsd", "coredns"))
                ).servers.values()
            ]
        for _ in run.rounds("growth"):
            for size, server in servers:
                with run.catching_failures("growth", server.name):
                    rows[size].add(server.name, _hits(run, server)[0])


def endurance(run: Run) -> None:
    """Measures CPU per answer and memory before and after many changes (`--changes`, by default 1,000,000)."""
    changes = run.options.changes
    before, after = (run.row("endurance", f"{CPU}, {when}", "µs", *targets) for when, targets in _before_and_after(CPU))
    memory = [run.row("endurance", f"memory, {when}", "MiB", *targets) for when, targets in _before_and_after("memory")]
    rate = run.row("endurance", f"changes, of {changes:,}", "1/s")
    with run.server_group(Cluster(run.options.services), [OURS]) as server_group:
        server = server_group.servers[OURS]
        for _ in run.rounds("endurance, before"):
            before.add(OURS, _hits(run, server)[0])
        memory[0].add(OURS, server.pss())
        begin = time.monotonic()
        _flood(run, server, changes)
        rate.add(OURS, changes / (time.monotonic() - begin))
        for _ in run.rounds("endurance, after"):
            after.add(OURS, _hits(run, server)[0])
        memory[1].add(OURS, server.pss())


def workers(run: Run) -> None:
    """Measures two workers on the server's core and eight on all cores, in comparison with one worker.

    Also measures how evenly the kernel divides 128 flows between two workers.
    """
    one = run.row("workers", f"{CPU}, 1 worker", "µs")
    two = run.row("workers", f"{CPU}, 2 workers", "µs", Target(1.1, of=one.measure))
    eight = run.row("workers", f"{CPU}, {MANY} workers on all cores", "µs", Target(1.5, of=one.measure))
    names = ("1 worker", "2 workers", f"{MANY} workers on all cores")
    rates = [run.row("workers", f"answers, {name}", "1/s") for name in names]
    share = run.row("workers", "flows of the worker with the smaller share", "%", Target(40, at_least=True))
    cluster = Cluster(run.options.services)
    with run.server_group(cluster, [OURS]) as single, run.server_group(cluster, [OURS], workers=2) as double:
        for _ in run.rounds("workers"):
            for row, rate, server_group in ((one, rates[0], single), (two, rates[1], double)):
                cpu, answers = _hits(run, server_group.servers[OURS])
                row.add(OURS, cpu)
                rate.add(OURS, answers)
            share.add(OURS, _smaller_share(double.servers[OURS]))
    all_cores = Cores(sorted({*run.options.cores.server, *run.options.cores.client}), run.options.cores.client)
    with run.server_group(cluster, [OURS], workers=MANY, cores=all_cores) as many:
        for _ in run.rounds(f"workers, {MANY}"):
            cpu, answers = _hits(run, many.servers[OURS])
            eight.add(OURS, cpu)
            rates[2].add(OURS, answers)


def _before_and_after(measure: str) -> list[tuple[str, tuple[Target, ...]]]:
    return [("before", ()), ("after", (Target(1.1, of=f"{measure}, before"),))]


def _hits(run: Run, server: Server) -> tuple[float, float]:
    """Sends A queries for random Services. Returns CPU microseconds per answer, and answers per second.

    The names are queried once before, so that the answers come from the server's cache.
    """
    cluster = server.config.cluster
    name = f"hits-{cluster.services}"
    measured, warm = run.folder / name, run.folder / f"{name}-warm"
    if not measured.exists():
        run.queries(measured.name, queries.hits(cluster, 2_000 if run.options.smoke else LINES).lines)
        run.queries(warm.name, sorted(set(measured.read_text().splitlines())))
    run.warm(server, warm)
    before = server.cpu()
    figures = run.run_load(server, run.load(), measured)
    cpu = server.cpu() - before
    run.check(figures, 0.0)
    return cpu / figures.completed * 1e6, figures.rate


def _flood(run: Run, server: Server, changes: int) -> None:
    """Changes endpoints `changes` times, as fast as the watches accept the events. Queries all names 20 times
    meanwhile.

    Returns when the last change is in an answer. Raises BrokenError after 60 seconds.
    """
    step = max(1, changes // 20)
    for made in range(0, changes, step):
        run.progress(f"endurance: {made:,} of {changes:,} changes")
        server.api.request(f"flood {min(step, changes - made)}")
        run.warm(server, run.folder / f"hits-{server.config.cluster.services}-warm")
    number = server.config.cluster.headless()[-1]
    [address] = server.api.request(f"change {number}")
    client = Client(server.port)
    try:
        until(
            "the last change",
            lambda: has_address(client.query(make_query(server.config.cluster.fqdn(number))), address),
            60,
        )
    except TimeoutError as error:
        raise BrokenError(f"{server.name}: {error}") from error
    finally:
        client.close()


def _smaller_share(server: Server) -> float:
    """Returns the percentage of UDP flows that the kernel gives to the less loaded of two workers.

    One worker is stopped (SIGSTOP), so the responses to one query of each flow are those of the other worker.
    """
    worker_pids = [
        pid for pid in tree(server.process.pid) if b"svcdns.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    if len(worker_pids) != 2:
        raise BrokenError(f"{server.name} has {len(worker_pids)} workers")
    query = make_query(server.config.cluster.fqdn(0))
    with ExitStack() as flows:
        clients = [Client(server.port, 0.3) for _ in range(FLOWS)]
        for one in clients:
            flows.callback(one.close)
        os.kill(worker_pids[0], signal.SIGSTOP)
        try:
            for one in clients:
                one.socket.send(query)
            time.sleep(0.3)
            answered = sum(_has_answer(one.socket) for one in clients)
        finally:
            os.kill(worker_pids[0], signal.SIGCONT)
    return 100 * min(answered, FLOWS - answered) / FLOWS


def _has_answer(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        return bool(one.recv(4096))
    except BlockingIOError:
        return False
