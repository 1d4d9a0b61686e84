"""Memory of all processes of a server: the sum of PSS, sampled every 50 ms."""

from __future__ import annotations

import time

from bench import queries
from bench.cluster import Cluster
from bench.processes import PssSampler
from bench.results import Target
from bench.run import Run
from bench.servers import Server
from bench.throughput import ALL

SETTLED = 1.0
"""Seconds between the last query, relist or reload, and reading the memory."""


def memory(run: Run) -> None:
    """Measures the memory after every name was queried, and after *mix* was sent twice.

    Also measures the peak memory of a start, a relist and a reload.

    The warm mix has every query that the scenario `mix` may send.
    """
    settled = 0.1 if run.options.smoke else SETTLED
    limits = {1: 91.0, 10: 101.0, 15: 170.0}
    mix_limits = {1: 95.0, 10: 110.0}
    for endpoints, limit in limits.items():
        cluster = Cluster(run.options.services, endpoints)
        size = f"{cluster.services:,} × {endpoints}"
        rounds = 1 if endpoints > 1 else run.options.rounds
        warm = run.row("memory", f"{size}, all names queried", "MiB", *(() if endpoints == 15 else (Target(limit),)))
        peak = run.row("memory", f"{size}, peak from start", "MiB")
        relist = run.row(
            "memory", f"{size}, peak through relist and reload", "MiB", *((Target(limit),) if endpoints == 15 else ())
        )
        mixed = None
        if endpoints in mix_limits:
            mixed = run.row("memory", f"{size}, warm mix", "MiB", Target(mix_limits[endpoints]))
        peers = ALL if endpoints == 1 or (endpoints == 10 and not run.options.smoke) else ("coredns",)
        path = run.queries("memory", queries.every_name(cluster).lines)
        mix = queries.warm_mix(cluster).lines
        mix_path = run.queries("memory-mix", mix[:2_000] if run.options.smoke else mix)
        for _ in range(rounds):
            for name in run.peers(*peers):
                run.progress(f"memory: {name}, {size}")
                with (
                    run.catching_failures("memory", name),
                    run.server_group(cluster, [name], wait=False) as server_group,
                ):
                    server = server_group.servers[name]
                    with PssSampler(server.process.pid) as sampler:
                        server.wait()
                        run.warm(server, path)
                        time.sleep(settled)
                    peak.add(name, sampler.peak)
                    warm.add(name, server.pss())
                    if mixed is not None:
                        run.warm(server, mix_path)
                        time.sleep(settled)
                        mixed.add(name, server.pss())
                    if name in run.peers("coredns"):
                        relist.add(name, _through_relist_and_reload(server, settled))


def _through_relist_and_reload(server: Server, settled: float) -> float:
    with PssSampler(server.process.pid) as sampler:
        server.relist()
        time.sleep(settled)
        server.reload()
        time.sleep(2 * settled)
    return sampler.peak
