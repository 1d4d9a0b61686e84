"""How soon a cluster is answered for: from start to ready, and from a change at the API server to the new answer."""

from __future__ import annotations

import random
import time
from contextlib import closing

from bench.asking import Asker, holds, packet
from bench.cluster import Cluster
from bench.dnsperf import BrokenError
from bench.open_loop import percentile
from bench.results import Target
from bench.run import Run, collector_at_rest
from bench.servers import Server

CHANGES = 200
BURST = 1_000
IN_FLIGHT = 64
"""Questions of a burst that wait for their answers at a time."""

PATIENCE = 10.0


def start(run: Run) -> None:
    """From exec to /ready and the first right answer, with 10 endpoints a Service."""
    cluster = Cluster(run.options.services, 10)
    row = run.row("start", f"to ready, {cluster.services:,} × 10", "s", Target(1.5))
    for _ in run.rounds("start"):
        for name in run.peers("nsd", "knot", "unbound", "dnsmasq", "coredns"):
            with run.trying("start", name), run.stage(cluster, [name]) as stage:
                row.add(name, stage.started[name])


def change(run: Run) -> None:
    """From the change of an endpoint to the new answer: one at a time, and a burst of 1,000."""
    limits = {"p50": (0.5, Target(1.5)), "p95": (0.95, Target(2.5))}
    rows = {label: run.row("change", f"to answer, {label}", "ms", limits[label][1]) for label in limits}
    burst = run.row("change", "burst of 1,000, all visible", "ms", Target(100))
    count, many = (20, 50) if run.options.smoke else (CHANGES, BURST)
    with run.stage(Cluster(run.options.services * 10 if run.options.smoke else run.options.services), run.peers("coredns")) as stage:
        for number in run.rounds("change"):
            for server in stage.servers.values():
                with run.trying("change", server.name):
                    chosen = random.Random(number)
                    targets = stage.cluster.headless()
                    with collector_at_rest():
                        delays = [_one(server, chosen.choice(targets)) for _ in range(count)]
                        burst.add(server.name, _burst(server, chosen.sample(targets, min(many, len(targets)))) * 1000)
                    for label, (share, _) in limits.items():
                        rows[label].add(server.name, percentile(delays, share) * 1000)


def _one(server: Server, number: int) -> float:
    """Seconds from a change of a Service's only endpoint to its address in the answer."""
    question = packet(server.site.cluster.fqdn(number))
    with closing(Asker(server.port)) as asker:
        asker.ask(question)
        begin = time.monotonic()
        [address] = server.api.ask(f"change {number}")
        while not holds(asker.ask(question), address):
            if time.monotonic() - begin > PATIENCE:
                raise BrokenError(f"{server.name}: the change of Service {number} is not answered")
        return time.monotonic() - begin


def _burst(server: Server, numbers: list[int]) -> float:
    """Seconds from the first of many changes until each one's new address was in an answer."""
    cluster = server.site.cluster
    with closing(Asker(server.port, 0.2)) as asker:
        for number in numbers:
            asker.ask(packet(cluster.fqdn(number)))
        begin = time.monotonic()
        addresses = server.api.ask(f"change {' '.join(map(str, numbers))}")
        pairs = enumerate(zip(numbers, addresses, strict=True))
        waiting = {ident: (packet(cluster.fqdn(number), "A", ident), address) for ident, (number, address) in pairs}
        while waiting:
            if time.monotonic() - begin > PATIENCE:
                raise BrokenError(f"{server.name}: {len(waiting)} of {len(numbers)} changes are not answered")
            _sweep(asker, waiting)
        return time.monotonic() - begin


def _sweep(asker: Asker, waiting: dict[int, tuple[bytes, str]]) -> None:
    """Asks for all that is waited for, some at a time; what has its new answer is waited for no more."""
    questions = list(waiting.values())
    for first in range(0, len(questions), IN_FLIGHT):
        asked = questions[first : first + IN_FLIGHT]
        for question, _ in asked:
            asker.socket.send(question)
        for _ in asked:
            try:
                reply = asker.socket.recv(4096)
            except TimeoutError:
                break
            ident = int.from_bytes(reply[:2])
            if ident in waiting and holds(reply, waiting[ident][1]):
                del waiting[ident]
