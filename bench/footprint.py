"""Memory during reloads, relists and an upgrade: `python -m bench.footprint --services 10000 --endpoints 15 --limit
170`.

svcdns runs in a memory control group with a limit of `--limit` MiB. The phases are: the start, a query for every name,
changing endpoints, a relist after 410, a reload, an upgrade in place. The steady state is the memory after the query
for every name. The result is JSON with the peak memory of each phase, and the memory after it.

The exit code is 1 if memory exceeded the limit, if a peak exceeded 1.3 times the steady state, or 1.1 times during the
reload. With `--snapshot`, svcdns is also killed, and started from its snapshot.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from typing import Any

from bench import queries
from bench.cluster import Cluster
from bench.memory_group import MemoryGroup
from bench.processes import PssSampler, children, kill_tree, pss_mib, until
from bench.run import Options, Run
from bench.servers import TIMEOUT, Server

SETTLED = 2.0
"""Seconds from the end of a phase until memory is read."""
PEAK, RELOAD = 1.3, 1.1
"""The highest ratios of a peak to the steady state."""


class Phases:
    """Measures a server's memory during several phases, such as start, relist and reload. `found` has MiB by phase."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.found: dict[str, dict[str, float]] = {}

    def measure(self, name: str, *steps: Any) -> None:
        """Runs the functions `steps` as the phase `name`. Records the peak memory, and the memory afterwards."""
        pid = self.server.process.pid
        with PssSampler(pid) as sampler:
            for step in steps:
                step()
            time.sleep(SETTLED)
        self.found[name] = {"peak": round(sampler.peak, 1), "settled": round(pss_mib(pid), 1)} | self.processes()

    def processes(self) -> dict[str, float]:
        """Returns the present memory of each process in MiB, by the name of the process."""
        return {name: round(pss_mib(pid), 1) for name, pid in children(self.server.process.pid).items()}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs all phases. Returns the memory of each phase in MiB, and its ratio to the steady state."""
    cluster = Cluster(options.services, options.endpoints)
    run_options = Options(["svcdns"], services=options.services)
    os.sched_setaffinity(0, run_options.cores.client)
    with MemoryGroup(options.limit << 20) as group, Run(run_options) as run:
        if options.snapshot:
            os.environ["SVCDNS_SNAPSHOT"] = str(run.folder / "snapshot")
        path = run.queries("every-name", queries.every_name(cluster).lines)
        with run.server_group(cluster, ["svcdns"], wait=False, prefix=group.prefix) as server_group:
            server = server_group.servers["svcdns"]
            phases = Phases(server)
            phases.measure("start", server.wait)
            phases.measure("every name queried", lambda: run.warm(server, path))
            steady = pss_mib(server.process.pid)
            api = server.api
            phases.measure(
                "churn",
                lambda: api.request(f"churn {options.changes} {options.seconds}"),
                lambda: time.sleep(options.seconds),
            )
            phases.measure("relist", server.relist)
            phases.measure("second relist", server.relist)
            phases.measure("reload", server.reload)
            phases.measure("every name queried, second time", lambda: run.warm(server, path))
            phases.measure("upgrade", lambda: upgrade(server))
            if options.snapshot:
                kill_tree(server.process)
                server.start(run_options.cores)
                phases.measure("start from the snapshot", server.wait)
            return {
                "command": " ".join(["python -m bench.footprint", *sys.argv[1:]]),
                "steady": round(steady, 1),
                "phases": phases.found,
                "largest peak / steady": round(largest_peak(phases.found) / steady, 2),
                "reload / steady": round(phases.found["reload"]["peak"] / steady, 2),
                "cgroup peak": group.peak,
                "limit hits": group.limit_hits,
                "log": [line for line in server.whole_log().splitlines() if "[INFO]" not in line],
            }


def largest_peak(phases: dict[str, dict[str, float]]) -> float:
    """Returns the highest peak of all phases except the upgrade, in MiB."""
    return max(phase["peak"] for name, phase in phases.items() if name != "upgrade")


def upgrade(server: Server) -> None:
    """Upgrades svcdns in place."""
    server.process.send_signal(signal.SIGUSR2)
    until("the end of the upgrade", lambda: "the upgrade is complete" in server.whole_log(), TIMEOUT, 0.05)


def within_limits(figures: dict[str, Any], limit: float) -> bool:
    """Returns True if memory never exceeded `limit` MiB, and the ratios of peak to steady memory are at most PEAK and
    RELOAD.
    """
    good = figures["largest peak / steady"] <= PEAK and figures["reload / steady"] <= RELOAD
    return good and max(phase["peak"] for phase in figures["phases"].values()) <= limit and not figures["limit hits"]


def main(arguments: list[str] | None = None) -> int:
    """Measures, and prints the figures. Returns 1 if they exceed a limit, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=15)
    parser.add_argument("--limit", type=int, default=170, help="limit in MiB (%(default)s)")
    parser.add_argument("--changes", type=float, default=50.0, help="changes a second (%(default)s)")
    parser.add_argument("--seconds", type=int, default=20, help="seconds of changes (%(default)s)")
    parser.add_argument("--snapshot", action="store_true", help="write a snapshot, and start from it at the end")
    options = parser.parse_args(arguments)
    figures = measure(options)
    print(json.dumps(figures, indent=2))
    return 0 if within_limits(figures, options.limit) else 1


if __name__ == "__main__":
    sys.exit(main())
