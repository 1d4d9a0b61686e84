"""Load on a cluster that changes: `python -m bench.churn --services 10000 --rate 20000 --seconds 30`.

It starts the API server of `bench.api`, svcdns with the Corefile of kubeadm on loopback, and dnsperf with random names of the cluster,
A and AAAA, half of them absent; prints what was asked, answered, dropped and counted as JSON, and ends with 1 where it does not add up.
Needs dnsperf.
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
from bench.cluster import Cluster, cluster_ips
from bench.dnsperf import Load
from bench.processes import Helper, cpu_seconds, pss_mib
from tests.support.server import Server, http, until

COREFILE = """
.:{port} {
    bind 127.0.0.1
    errors
    health 127.0.0.1:{health} {
        lameduck 500ms
    }
    ready 127.0.0.1:{ready}
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        endpoint API
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    prometheus 127.0.0.1:{metrics}
    forward . 127.0.0.1:9
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
    loadbalance
}
"""


def questions(path: Path, cluster: Cluster, lines: int) -> None:
    """Writes dnsperf's input: random names of the cluster, A and AAAA, every second one absent."""
    chosen = random.Random(2)
    with path.open("w") as out:
        for line in range(lines):
            absent = "no-" if line % 2 else ""
            out.write(f"{absent}{cluster.fqdn(chosen.randrange(cluster.services))} {chosen.choice(('A', 'AAAA'))}\n")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One run; its figures."""
    cluster = Cluster(options.services, options.endpoints)
    cores = sorted(os.sched_getaffinity(0))
    api = Helper("bench.api", "--services", str(options.services), "--endpoints", str(options.endpoints), cpus=cores)
    with tempfile.TemporaryDirectory() as folder:
        try:
            queries = Path(folder) / "queries"
            questions(queries, cluster, options.lines)
            with Server(Path(folder), COREFILE.replace("API", f"http://127.0.0.1:{api.port}")) as server:
                begin = time.monotonic()
                until("/ready", lambda: server.process.poll() is not None or http(server.ports["ready"], "/ready")[0] == 200, 120)
                assert server.records(f"{cluster.fqdn(2)}.") == cluster_ips(2), server.log
                started = time.monotonic() - begin
                cpu = cpu_seconds(server.process.pid)
                api.ask(f"churn {options.changes} {options.seconds}")
                load = Load(seconds=options.seconds, rate=options.rate, clients=options.clients, outstanding=5000)
                perf = dnsperf.run(load, server.ports["port"], queries, cores)
                cpu = cpu_seconds(server.process.pid) - cpu
                pss = pss_mib(server.process.pid)
                counted = until("the counters", lambda: _counted(server, perf.sent + 1), 10)
                drops = server.metric("svcdns_socket_dropped_packets_total")
                responses = server.metric("coredns_dns_responses_total")
                series = server.metric("coredns_dns_request_duration_seconds_count")
                changes = api.ask("changes")
                code = server.stop()
                log = server.log
        finally:
            api.close()
    return {
        "command": "python -m bench.churn " + " ".join(f"--{k} {v}" for k, v in vars(options).items()),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "sent": perf.sent,
        "completed": perf.completed,
        "lost": perf.lost,
        "qps": round(perf.rate),
        "requests_counted": counted,
        "responses_counted": responses,
        "durations_counted": series,
        "socket_drops": drops,
        "changes_made": changes,
        "start_s": round(started, 2),
        "cpu_us_per_query": round(cpu / perf.completed * 1e6, 2),
        "pss_mib": round(pss, 1),
        "exit_code": code,
        "log": log.splitlines()[-6:],
    }


def _counted(server: Server, wanted: float) -> float:
    """Requests counted, once they have reached what was sent: a scrape may lag by 2 s."""
    counted = server.metric("coredns_dns_requests_total")
    return counted if counted >= wanted else 0.0


def main() -> int:
    """Measures, prints and judges."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=4)
    parser.add_argument("--changes", type=float, default=50.0)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--lines", type=int, default=100_000, help="questions in dnsperf's input")
    options = parser.parse_args()
    figures = measure(options)
    print(json.dumps(figures, indent=2))
    asked = figures["sent"] + 1  # the one that asked whether it serves
    counts = {figures[name] for name in ("requests_counted", "responses_counted", "durations_counted")}
    good = figures["lost"] == figures["socket_drops"] == figures["exit_code"] == 0 and counts == {asked}
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
