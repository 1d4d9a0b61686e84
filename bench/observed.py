"""Measures *hit* with plugins that sign or observe replies: `python -m bench.observed [CASE...]`.

svcdns is measured, and CoreDNS if the environment variable COREDNS names its binary, both with the Corefile of kubeadm
and the lines of a case. In each round, dnsperf sends A queries of Services as fast as replies arrive, and the CPU time
per answer is measured. Then queries are sent at an even rate, and their latencies are measured.

Cases:

- `plain`: the Corefile of kubeadm without more lines.
- `tsig`: all queries are signed.
- `dnssec`: all queries have the DO bit.
- `dnstap`: all messages are sent to fstrm_capture.
- `trace`: every query is traced. `trace-100`: one of 100 queries is traced. A collector accepts all spans.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any, Final

import dns.message
import dns.tsig

from bench import peers
from bench.cluster import Cluster
from bench.dnsperf import BrokenError, check, parse_summary
from bench.open_loop import percentile
from bench.processes import cpu_seconds, free_ports, kill_tree, spawn, until
from bench.queries import every_name, hits

KEY: Final = b64encode(b"0123456789abcdef0123456789abcdef").decode()
RATE: Final = 500
"""The queries a second while latencies are measured."""
LINES: Final = 20_000
NAMES: Final = 200
"""The number of queries that are made for the measurement of latencies."""
CASES: Final = ("plain", "tsig", "dnssec", "dnstap", "trace", "trace-100")
DNSPERF: Final[dict[str, list[str]]] = {"tsig": ["-y", f"hmac-sha256:bench.:{KEY}"], "dnssec": ["-e", "-D"]}
"""Additional arguments of dnsperf, by case."""


class _Collector(BaseHTTPRequestHandler):
    """Accepts all spans."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Writes nothing."""


@contextlib.contextmanager
def environment(case: str, folder: Path) -> Iterator[str]:
    """Runs what a case needs beside the server. Yields the lines of the case in the server block."""
    if case == "tsig":
        yield f"tsig . {{\nsecret bench. {KEY}\nrequire all\n}}"
    elif case == "dnssec":
        command = ["dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", "-K", str(folder), "cluster.local"]
        name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        yield f"dnssec cluster.local {{\nkey file {folder / name}\n}}"
    elif case == "dnstap":
        path = folder / "dnstap.sock"
        command = ["fstrm_capture", "-t", "protobuf:dnstap.Dnstap", "-u", str(path), "-w", "/dev/null"]
        process = spawn(command, sorted(os.sched_getaffinity(0)), stderr=subprocess.DEVNULL)
        try:
            until("fstrm_capture", path.exists, 10.0)
            yield f"dnstap {path} full"
        finally:
            kill_tree(process)
    elif case == "plain":
        yield ""
    else:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            every = 100 if case == "trace-100" else 1
            yield f"trace 127.0.0.1:{server.server_port} {{\nevery {every}\n}}"
        finally:
            server.shutdown()
            server.server_close()


def packets(case: str, cluster: Cluster) -> list[bytes]:
    """Returns queries of a case. Signed queries are valid for five minutes."""
    found = []
    for line in hits(cluster, NAMES, seed=2).lines:
        query = dns.message.make_query(line.split()[0], "A", use_edns=case == "dnssec", want_dnssec=case == "dnssec")
        if case == "tsig":
            query.use_tsig(dns.tsig.Key("bench.", KEY, dns.tsig.HMAC_SHA256), fudge=300)
        found.append(query.to_wire())
    return found


def latencies(port: int, queries: Sequence[bytes], seconds: float) -> list[float]:
    """Sends RATE queries a second. Returns their latencies in seconds."""
    found: list[float] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", port))
        due = time.monotonic()
        ends = due + seconds
        for query in cycle(queries):
            if due >= ends:
                break
            time.sleep(max(0.0, due - time.monotonic()))
            begun = time.monotonic()
            sock.send(query)
            reply = sock.recv(4096)
            found.append(time.monotonic() - begun)
            if reply[3] & 15 or not reply[7]:
                raise BrokenError(f"a reply without an answer: {reply!r}")
            due += 1 / RATE
    return found


def dnsperf(case: str, port: int, path: Path, seconds: int) -> Callable[[], int]:
    """Returns a function that runs dnsperf once, and returns the number of answers.

    If `seconds` is 0, dnsperf sends each query once.
    """
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(path), "-c", "32", "-T", "1", "-q", "32"]
    command += [*(["-l", str(seconds)] if seconds else ["-n", "1"]), *DNSPERF.get(case, [])]

    def run() -> int:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
        figures = parse_summary(done.stdout + done.stderr)
        check(figures, 0.0)
        return figures.completed

    return run


@contextlib.contextmanager
def running(name: str, config: peers.ServerConfig, folder: Path, queries: Sequence[bytes]) -> Iterator[int]:
    """Runs a server, and yields its process id when it answers."""
    command = peers.coredns(config, folder) if name == "coredns" else peers.svcdns(config, folder)
    with (folder / f"{name}.log").open("wb") as log:
        process = spawn(command, sorted(os.sched_getaffinity(0)), stdout=log, stderr=subprocess.STDOUT)
    try:

        def answers() -> bool:
            if process.poll() is not None:
                raise BrokenError((folder / f"{name}.log").read_text()[-500:])
            with contextlib.suppress(OSError, BrokenError):
                return bool(latencies(config.port, queries, 1 / RATE))
            return False

        until("the first answer", answers, 30.0, 0.1)
        yield process.pid
    finally:
        kill_tree(process)


def measure(case: str, name: str, api: int, cluster: Cluster, folder: Path, seconds: int) -> tuple[float, float, float]:
    """Returns the CPU time per answer in microseconds, and the median and the 99th percentile of the latency in ms."""
    port, upstream, *http = free_ports(5)
    with environment(case, folder) as plugins:
        config = peers.ServerConfig(
            cluster,
            port,
            upstream,
            api,
            http_ports=dict(zip(("health", "ready", "metrics"), http, strict=True)),
            plugins=plugins,
        )
        warm, measured = folder / "warm", folder / "measured"
        warm.write_text("\n".join(every_name(cluster).lines * 3) + "\n")
        measured.write_text("\n".join(hits(cluster, LINES).lines) + "\n")
        queries = packets(case, cluster)
        with running(name, config, folder, queries) as pid:
            dnsperf(case, port, warm, 0)()
            before = cpu_seconds(pid)
            count = dnsperf(case, port, measured, seconds)()
            cpu = (cpu_seconds(pid) - before) / count * 1e6
            times = latencies(port, queries, seconds)
    return cpu, percentile(times, 0.5) * 1000, percentile(times, 0.99) * 1000


def main() -> int:
    """Runs the rounds, and prints a table of the medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.observed", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", default=[])
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--services", type=int, default=1000)
    arguments = parser.parse_args()
    names, cluster = ["svcdns", *(["coredns"] if os.environ.get("COREDNS") else [])], Cluster(arguments.services)
    programs = {"dnssec": "dnssec-keygen", "dnstap": "fstrm_capture"}
    cases = [one for one in arguments.cases or CASES if shutil.which(programs.get(one, "dnsperf"))]
    command = [sys.executable, "-m", "bench.api", "--services", str(arguments.services)]
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as api:
        assert api.stdout is not None
        port = int(api.stdout.readline())
        for _ in range(arguments.rounds):
            for case in cases:
                for name in names:
                    with tempfile.TemporaryDirectory(prefix="svcdns-observed-") as folder:
                        figures = measure(case, name, port, cluster, Path(folder), arguments.seconds)
                    found.setdefault((case, name), []).append(figures)
                    print(case, name, *(f"{figure:.2f}" for figure in figures), file=sys.stderr, flush=True)
        api.terminate()
    print("| Case | Server | CPU µs per answer | p50 ms | p99 ms |\n|---|---|---|---|---|")
    for case in cases:
        for name in names:
            values = [median(column) for column in zip(*found[case, name], strict=True)]
            print(f"| {case} | {name} | {values[0]:.1f} | {values[1]:.2f} | {values[2]:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
