"""Load on a cluster that changes: `python -m bench.churn --services 10000 --rate 20000 --seconds 30`.

It starts the API double of `bench.cluster`, svcdns with the Corefile of kubeadm on loopback, and dnsperf with random names of the cluster,
A and AAAA, half of them absent; prints what was asked, answered, dropped and counted as JSON, and ends with 1 where it does not add up.
Needs dnsperf.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.cluster import place
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


def questions(path: Path, services: int, lines: int) -> None:
    """Writes dnsperf's input: random names of the cluster, A and AAAA, every second one absent."""
    chosen = random.Random(2)
    with path.open("w") as out:
        for line in range(lines):
            name, team = place(chosen.randrange(services))
            absent = "no-" if line % 2 else ""
            out.write(f"{absent}{name}.{team}.svc.cluster.local {chosen.choice(('A', 'AAAA'))}\n")


def dnsperf(port: int, path: Path, options: argparse.Namespace) -> dict[str, float]:
    """Runs dnsperf against a port; its figures."""
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(path), "-Q", str(options.rate), "-l", str(options.seconds)]
    command += ["-c", str(options.clients), "-q", "5000", "-t", "5"]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=options.seconds + 60).stdout
    wanted = {"sent": "Queries sent", "completed": "Queries completed", "lost": "Queries lost", "qps": "Queries per second"}
    found = {key: float(re.search(rf"{label}:\s+([\d.]+)", text)[1]) for key, label in wanted.items()}  # type: ignore[index]
    latency = re.search(r"Average Latency \(s\):\s+([\d.]+) \(min [\d.]+, max ([\d.]+)\)", text)
    assert latency, text
    return found | {"latency_average_ms": float(latency[1]) * 1000, "latency_max_ms": float(latency[2]) * 1000}


def processor_seconds(server: Server) -> float:
    """User and system time of all of the server's processes."""
    main = psutil.Process(server.process.pid)
    return sum(sum(p.cpu_times()[:2]) for p in (main, *main.children(recursive=True)))


def memory(server: Server) -> float:
    """The sum of PSS, MiB."""
    main = psutil.Process(server.process.pid)
    return sum(p.memory_full_info().pss for p in (main, *main.children(recursive=True))) / 2**20


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One run; its figures."""
    command = [sys.executable, "-m", "bench.cluster"]
    command += [f"--{name}={getattr(options, name)}" for name in ("services", "endpoints", "changes")]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cluster,
    ):
        assert cluster.stdout is not None
        assert cluster.stdin is not None
        try:
            url = cluster.stdout.readline().strip()
            queries = Path(folder) / "queries"
            questions(queries, options.services, options.lines)
            with Server(Path(folder), COREFILE.replace("API", url)) as server:
                begin = time.monotonic()
                until("/ready", lambda: server.process.poll() is not None or http(server.ports["ready"], "/ready")[0] == 200, 120)
                assert server.records("service-1.team-1.svc.cluster.local.") == ["10.96.0.1"], server.log
                started = time.monotonic() - begin
                cpu = processor_seconds(server)
                perf = dnsperf(server.ports["port"], queries, options)
                cpu = processor_seconds(server) - cpu
                pss = memory(server)
                counted = until("the counters", lambda: _counted(server, perf["sent"] + 1), 10)
                drops = server.metric("svcdns_socket_dropped_packets_total")
                responses = server.metric("coredns_dns_responses_total")
                series = server.metric("coredns_dns_request_duration_seconds_count")
                code = server.stop()
                log = server.log
        finally:
            cluster.stdin.close()
            changes = int(cluster.stdout.read() or 0)
    return {
        "command": "python -m bench.churn " + " ".join(f"--{k} {v}" for k, v in vars(options).items()),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        **perf,
        "requests_counted": counted,
        "responses_counted": responses,
        "durations_counted": series,
        "socket_drops": drops,
        "changes_made": changes,
        "start_s": round(started, 2),
        "cpu_us_per_query": round(cpu / perf["completed"] * 1e6, 2),
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
