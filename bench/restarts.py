"""Measures the slowest answer of svcdns while parts of it are replaced under load."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from bench import pacing, queries
from bench.cluster import Cluster
from bench.dnsperf import Load
from bench.pacing import Figures
from bench.processes import children, until
from bench.results import OURS, Target
from bench.run import Run
from bench.servers import Server
from bench.throughput import CPU, hits_of, measure

RATE = 20_000
LEAD = 1.0
"""Seconds of load before the event."""
TAIL = 2.0
"""Seconds of load after the event."""
TIMEOUT = 60.0
"""The seconds that an event may take."""

SLOWEST, LOST = "slowest answer", "lost"
NO_EVENT = "no event"


def nothing(_server: Server) -> None:
    """Does nothing, to measure the slowest answer of an undisturbed server."""


def reload(server: Server) -> None:
    """Reloads the Corefile with another TTL of cluster names. Stored replies for these names are dropped."""
    _reload(server, "ttl 30", "ttl 29")


def reload_forward(server: Server) -> None:
    """Reloads the Corefile with another option of *forward*. Stored replies for cluster names stay."""
    _reload(server, "max_concurrent 1000", "max_concurrent 999")


def _reload(server: Server, words: str, other: str) -> None:
    """Replaces `words` in the Corefile by `other`, or `other` by `words`, and waits until the Corefile is in use."""
    text = server.corefile.read_text()
    before = server.whole_log().count("Reloading complete")
    server.corefile.write_text(text.replace(words, other) if words in text else text.replace(other, words))
    server.reload()
    until("the reload", lambda: server.whole_log().count("Reloading complete") > before, TIMEOUT, 0.02)


def upgrade(server: Server) -> None:
    """Upgrades svcdns in place, and waits until every process is replaced."""
    before = server.whole_log().count("the upgrade is complete")
    server.process.send_signal(signal.SIGUSR2)
    until("the upgrade", lambda: server.whole_log().count("the upgrade is complete") > before, TIMEOUT, 0.02)


def death(server: Server) -> None:
    """Kills the only worker, and waits for the new one."""
    before = children(server.process.pid)["worker 0"]
    os.kill(before, signal.SIGKILL)
    until("another worker", lambda: children(server.process.pid).get("worker 0", before) != before, TIMEOUT, 0.02)


EVENTS: dict[str, tuple[Callable[[Server], None], tuple[Target, ...], tuple[Target, ...]]] = {
    NO_EVENT: (nothing, (), ()),
    "reload": (reload, (Target(1.5, of=f"{SLOWEST}, {NO_EVENT}"),), (Target(0),)),
    "upgrade": (upgrade, (Target(1.5, of=f"{SLOWEST}, {NO_EVENT}"),), (Target(0),)),
    "death of the worker": (death, (Target(300),), ()),
}
"""The events, with the targets for the slowest answer in milliseconds, and for the number of lost queries."""

FIRST_ANSWERS: dict[str, Callable[[Server], None]] = {
    "stored replies": nothing,
    "after a reload of forward": reload_forward,
    "after a reload of kubernetes": reload,
}
"""The events before a measurement of the CPU time per answer. Each name is queried once."""


def restarts(run: Run) -> None:
    """Measures the slowest answer at 20,000 queries a second: during a reload, an upgrade, and the death of the
    worker. Measures also the CPU time of the first answers after a reload.
    """
    if reason := pacing.why_unavailable():
        run.progress(f"leaving out restarts: {reason}\n")
        return
    rows = {
        name: (
            run.row("restarts", f"{SLOWEST}, {name}", "ms", *slow),
            run.row("restarts", f"{LOST}, {name}", "", *lost),
        )
        for name, (_, slow, lost) in EVENTS.items()
    }
    first = {name: run.row("restarts", f"{CPU}, {name}", "µs") for name in FIRST_ANSWERS}
    cluster = Cluster(run.options.services)
    path = run.queries("restarts", hits_of(run, cluster).lines)
    every_name = queries.every_name(cluster)
    warm = run.queries("restarts-warm", every_name.lines)
    with run.server_group(cluster, [OURS]) as server_group:
        server = server_group.servers[OURS]
        for _ in run.rounds("restarts"):
            for name, (event, _, _) in EVENTS.items():
                with run.catching_failures("restarts", name):
                    run.warm(server, warm)
                    figures = _during(run, server, event, path)
                    rows[name][0].add(OURS, figures.slowest / 1000)
                    rows[name][1].add(OURS, figures.lost)
            for name, event in FIRST_ANSWERS.items():
                with run.catching_failures("restarts", name):
                    run.warm(server, warm)
                    event(server)
                    measure(run, server, Load(seconds=0), warm, every_name.nxdomain, [first[name]])


def _during(run: Run, server: Server, event: Callable[[Server], None], path: Path) -> Figures:
    """Sends queries at RATE without waiting for replies, calls `event` meanwhile, and returns the figures.

    Raises BrokenError if most queries were lost.
    """
    lead, tail = (0.2, 0.2) if run.options.smoke else (LEAD, TAIL)
    process = run.start_pace(server, run.pace(RATE, lead + TIMEOUT + tail, "open"), path)
    try:
        time.sleep(lead)
        event(server)
        time.sleep(tail)
    finally:
        process.terminate()
        figures = pacing.finish(process)
    pacing.check(figures, lost=0.5)
    return figures
