"""What does not grow, and what does: CPU per answer with the size of a cluster, after a million changes, and with a second worker."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

from bench import questions
from bench.asking import Asker, holds, packet
from bench.cluster import Cluster
from bench.dnsperf import BrokenError
from bench.processes import tree, until
from bench.results import OURS, Target
from bench.run import Run
from bench.servers import Server
from bench.throughput import CPU, LINES

FLOWS = 128
SIZES = (100, 1_000, 10_000, 100_000)


def growth(run: Run) -> None:
    """CPU per answer of clusters of 100 to 100,000 Services."""
    sizes = (100, 1_000) if run.options.smoke else SIZES
    rows = {}
    for size in sizes:
        targets = (Target(1.1, of=f"{CPU}, {sizes[0]:,}"),) if size != sizes[0] else ()
        rows[size] = run.row("growth", f"{CPU}, {size:,}", "µs", *targets)
    with ExitStack() as stages:
        servers = []
        for size in sizes:
            run.say(f"growth: a cluster of {size:,}")
            servers += [(size, one) for one in stages.enter_context(run.stage(Cluster(size), run.peers("nsd", "coredns"))).servers.values()]
        for _ in run.rounds("growth"):
            for size, server in servers:
                with run.trying("growth", server.name):
                    rows[size].add(server.name, _hits(run, server)[0])


def endurance(run: Run) -> None:
    """CPU per answer and memory before and after 1,000,000 changes (`--changes`)."""
    changes = run.options.changes
    before, after = (run.row("endurance", f"{CPU}, {when}", "µs", *targets) for when, targets in _before_and_after(CPU))
    memory = [run.row("endurance", f"memory, {when}", "MiB", *targets) for when, targets in _before_and_after("memory")]
    rate = run.row("endurance", f"changes, of {changes:,}", "1/s")
    with run.stage(Cluster(run.options.services), [OURS]) as stage:
        server = stage.servers[OURS]
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
    """Two workers: CPU per answer beside one, and the share of 128 flows that each gets."""
    one = run.row("workers", f"{CPU}, 1 worker", "µs")
    two = run.row("workers", f"{CPU}, 2 workers", "µs", Target(1.1, of=one.measure))
    rates = [run.row("workers", f"answers, {count} worker{'s' * (count > 1)}", "1/s") for count in (1, 2)]
    share = run.row("workers", "flows of the worker with fewer", "%", Target(40, at_least=True))
    cluster = Cluster(run.options.services)
    with run.stage(cluster, [OURS]) as single, run.stage(cluster, [OURS], workers=2) as double:
        for _ in run.rounds("workers"):
            for row, rate, stage in ((one, rates[0], single), (two, rates[1], double)):
                cpu, answers = _hits(run, stage.servers[OURS])
                row.add(OURS, cpu)
                rate.add(OURS, answers)
            share.add(OURS, _smaller_share(double.servers[OURS]))


def _before_and_after(measure: str) -> list[tuple[str, tuple[Target, ...]]]:
    return [("before", ()), ("after", (Target(1.1, of=f"{measure}, before"),))]


def _hits(run: Run, server: Server) -> tuple[float, float]:
    """A of random Services, all asked before: CPU per answer, microseconds, and answers a second."""
    cluster = server.site.cluster
    name = f"hits-{cluster.services}"
    asked, warm = run.folder / name, run.folder / f"{name}-warm"
    if not asked.exists():
        run.questions(asked.name, questions.hits(cluster, 2_000 if run.options.smoke else LINES).lines)
        run.questions(warm.name, sorted(set(asked.read_text().splitlines())))
    run.warm(server, warm)
    before = server.cpu()
    figures = run.ask(server, run.load(), asked)
    cpu = server.cpu() - before
    run.check(figures, 0.0)
    return cpu / figures.completed * 1e6, figures.rate


def _flood(run: Run, server: Server, changes: int) -> None:
    """Makes changes as fast as they are taken, asks for every name now and then, and waits until the last change is answered."""
    step = max(1, changes // 20)
    for made in range(0, changes, step):
        run.say(f"endurance: {made:,} of {changes:,} changes")
        server.api.ask(f"flood {min(step, changes - made)}")
        run.warm(server, run.folder / f"hits-{server.site.cluster.services}-warm")
    number = server.site.cluster.headless()[-1]
    [address] = server.api.ask(f"change {number}")
    asker = Asker(server.port)
    try:
        until("the last change", lambda: holds(asker.ask(packet(server.site.cluster.fqdn(number))), address), 60)
    except TimeoutError as error:
        raise BrokenError(f"{server.name}: {error}") from error
    finally:
        asker.close()


def _smaller_share(server: Server) -> float:
    """Asks once from each of many flows while one worker stands still; the share of the other, or of that one if it is smaller, percent."""
    held = [pid for pid in tree(server.process.pid) if b"svcdns.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    if len(held) != 2:
        raise BrokenError(f"{server.name} has {len(held)} workers")
    question = packet(server.site.cluster.fqdn(0))
    with ExitStack() as flows:
        askers = [Asker(server.port, 0.3) for _ in range(FLOWS)]
        for one in askers:
            flows.callback(one.close)
        os.kill(held[0], signal.SIGSTOP)
        try:
            for one in askers:
                one.socket.send(question)
            time.sleep(0.3)
            answered = sum(_has_answer(one.socket) for one in askers)
        finally:
            os.kill(held[0], signal.SIGCONT)
    return 100 * min(answered, FLOWS - answered) / FLOWS


def _has_answer(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        return bool(one.recv(4096))
    except BlockingIOError:
        return False
