"""Memory on a bad day: `python -m bench.footprint --services 10000 --endpoints 15 --limit 170`.

One svcdns with the Corefile of kubeadm, in a memory control group with that limit where one can be made: its start, every name asked,
endpoints that move, a full relist after 410, a reload, an upgrade in place. Prints for each part the peak of the sum of PSS (sampled
every 50 ms), and what is left when it is over, with what each process has of that; JSON. Ends with 1 where more than the limit was used,
where a peak is above 1.3 times the steady state (but for the upgrade, which has two of one process at a time), or a reload above 1.1
times. With `--snapshot` it keeps one on disk, and is killed and started from it at the end. Needs dnsperf.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from typing import Any

from bench import questions
from bench.cluster import Cluster
from bench.groups import MemoryGroup
from bench.processes import PssSampler, children, end, pss_mib, until
from bench.run import Options, Run
from bench.servers import PATIENCE, Server

SETTLED = 2.0
"""Seconds from the end of a part to the reading of what is left."""
PEAK, RELOAD = 1.3, 1.1
"""The largest peaks, as parts of the steady state."""


class Parts:
    """Measures one part of the day after another."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.found: dict[str, dict[str, float]] = {}

    def measure(self, name: str, *steps: Any) -> None:
        """Takes the steps; the peak meanwhile, and what is left."""
        pid = self.server.process.pid
        with PssSampler(pid) as sampler:
            for step in steps:
                step()
            time.sleep(SETTLED)
        self.found[name] = {"peak": round(sampler.peak, 1), "left": round(pss_mib(pid), 1)} | self.processes()

    def processes(self) -> dict[str, float]:
        """What each process has now."""
        return {name: round(pss_mib(pid), 1) for name, pid in children(self.server.process.pid).items()}


def day(options: argparse.Namespace) -> dict[str, Any]:
    """One run; its figures, MiB."""
    cluster = Cluster(options.services, options.endpoints)
    chosen = Options(["svcdns"], services=options.services)
    os.sched_setaffinity(0, chosen.cores.asker)
    with MemoryGroup(options.limit << 20) as group, Run(chosen) as run:
        if options.snapshot:
            os.environ["SVCDNS_SNAPSHOT"] = str(run.folder / "snapshot")
        path = run.questions("every-name", questions.every_name(cluster).lines)
        with run.stage(cluster, ["svcdns"], wait=False, prefix=group.prefix) as stage:
            server = stage.servers["svcdns"]
            parts = Parts(server)
            parts.measure("start", server.wait)
            parts.measure("every name asked", lambda: run.warm(server, path))
            steady = pss_mib(server.process.pid)
            api = server.api
            parts.measure("churn", lambda: api.ask(f"churn {options.changes} {options.seconds}"), lambda: time.sleep(options.seconds))
            parts.measure("relist", server.relist)
            parts.measure("relist again", server.relist)
            parts.measure("reload", server.reload)
            parts.measure("every name asked again", lambda: run.warm(server, path))
            parts.measure("upgrade", lambda: upgrade(server))
            if options.snapshot:
                end(server.process)
                server.start(chosen.cores)
                parts.measure("start from the snapshot", server.wait)
            return {
                "command": " ".join(["python -m bench.footprint", *sys.argv[1:]]),
                "steady": round(steady, 1),
                "parts": parts.found,
                "largest peak by steady": round(highest(parts.found) / steady, 2),
                "reload by steady": round(parts.found["reload"]["peak"] / steady, 2),
                "group's most": group.most,
                "limit met": group.failures,
                "log": [line for line in server.whole_log().splitlines() if "[INFO]" not in line],
            }


def highest(parts: dict[str, dict[str, float]]) -> float:
    """The largest peak of all parts but the upgrade, MiB."""
    return max(part["peak"] for name, part in parts.items() if name != "upgrade")


def upgrade(server: Server) -> None:
    """Has the program replaced in place, by itself."""
    server.process.send_signal(signal.SIGUSR2)
    until("the end of the upgrade", lambda: "the upgrade is complete" in server.whole_log(), PATIENCE, 0.05)


def judged(figures: dict[str, Any], limit: float) -> bool:
    """Whether the figures keep what is promised."""
    good = figures["largest peak by steady"] <= PEAK and figures["reload by steady"] <= RELOAD
    return good and max(part["peak"] for part in figures["parts"].values()) <= limit and not figures["limit met"]


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and judges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=15)
    parser.add_argument("--limit", type=int, default=170, help="MiB")
    parser.add_argument("--changes", type=float, default=50.0, help="changes a second")
    parser.add_argument("--seconds", type=int, default=20, help="of changes")
    parser.add_argument("--snapshot", action="store_true", help="keeps one on disk, and starts from it at the end")
    options = parser.parse_args(arguments)
    figures = day(options)
    print(json.dumps(figures, indent=2))
    return 0 if judged(figures, options.limit) else 1


if __name__ == "__main__":
    sys.exit(main())
