"""Load on a cluster that changes: `python -m bench.churn --services 10000 --rate 20000 --seconds 30`.

The program starts the API server of `bench.api`, svcdns with the Corefile of kubeadm, and dnsperf. dnsperf queries
random names of the cluster, half of them nonexistent. The result is JSON with queries sent, answered and lost, and the
counters of the server. The exit code is 1 if a query was lost, or if a counter differs from the number of queries.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import dnsperf
from bench.cluster import Cluster
from bench.dnsperf import Load
from bench.processes import until
from bench.servers import Cores, Server, ServerGroup

REQUESTS = "coredns_dns_requests_total"
LAG = 2.0
"""Seconds until a scrape includes every query."""


def write_input(path: Path, cluster: Cluster, lines: int) -> None:
    """Writes dnsperf's input: A and AAAA queries for random names of the cluster. Half of the names do not exist."""
    rng = random.Random(2)
    with path.open("w") as out:
        for line in range(lines):
            prefix = "no-" if line % 2 else ""
            out.write(f"{prefix}{cluster.fqdn(rng.randrange(cluster.services))} {rng.choice(('A', 'AAAA'))}\n")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs the server under load once, and returns the figures by name.

    Raises BrokenError if the server does not start or dnsperf fails.
    """
    cluster = Cluster(options.services, options.endpoints)
    cores = sorted(os.sched_getaffinity(0))
    with ServerGroup(cluster, ["svcdns"], Cores(cores, cores)) as server_group, tempfile.TemporaryDirectory() as folder:
        server = server_group.servers["svcdns"]
        queries = Path(folder) / "queries"
        write_input(queries, cluster, options.lines)
        time.sleep(LAG)
        before = server.metric(REQUESTS)
        cpu = server.cpu()
        server.api.request(f"churn {options.changes} {options.seconds}")
        load = Load(seconds=options.seconds, rate=options.rate, clients=options.clients, outstanding=5000)
        perf = dnsperf.run(load, server.port, queries, cores)
        cpu = server.cpu() - cpu
        pss = server.pss()
        counted = until("the counters", lambda: _reached(server, before + perf.sent), 10)
        drops = server.metric("svcdns_socket_dropped_packets_total")
        responses = server.metric("coredns_dns_responses_total")
        durations = server.metric("coredns_dns_request_duration_seconds_count")
        changes = server.api.request("changes")
        server.process.terminate()
        code = server.process.wait(30)
        log = server.whole_log()
        started = server_group.started["svcdns"]
    return {
        "command": "python -m bench.churn " + " ".join(f"--{k} {v}" for k, v in vars(options).items()),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "sent": perf.sent,
        "completed": perf.completed,
        "lost": perf.lost,
        "qps": round(perf.rate),
        "requests_counted": counted - before,
        "responses_counted": responses - before,
        "durations_counted": durations - before,
        "socket_drops": drops,
        "changes_made": changes,
        "start_s": round(started, 2),
        "cpu_us_per_query": round(cpu / perf.completed * 1e6, 2),
        "pss_mib": round(pss, 1),
        "exit_code": code,
        "log": log.splitlines()[-6:],
    }


def _reached(server: Server, wanted: float) -> float:
    """Returns the server's counter of DNS requests if it has reached `wanted`, otherwise 0."""
    counted = server.metric(REQUESTS)
    return counted if counted >= wanted else 0.0


def main() -> int:
    """Measures, and prints the figures.

    Returns 1 if queries were lost, or if a counter of the server differs from the number of queries. Otherwise returns
    0.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=4)
    parser.add_argument("--changes", type=float, default=50.0)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--lines", type=int, default=100_000, help="queries in dnsperf's input")
    options = parser.parse_args()
    figures = measure(options)
    print(json.dumps(figures, indent=2))
    counts = {figures[name] for name in ("requests_counted", "responses_counted", "durations_counted")}
    good = figures["lost"] == figures["socket_drops"] == figures["exit_code"] == 0 and counts == {figures["sent"]}
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
