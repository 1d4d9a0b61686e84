"""Measures the CPU time of DNS over HTTPS, gRPC and TLS: `python -m bench.https`.

svcdns is measured, and CoreDNS if the environment variable COREDNS names its binary. The programs h2load (package
nghttp2-client) and dnsperf make the load. In each round, each server answers the same queries, one server after the
other. CPU time is that of all processes of a server. Queries over UDP are sent every 2 ms, first without the load and
then during the load.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Final

from bench.attacks import _certificate
from bench.client import has_address, make_query
from bench.open_loop import percentile
from bench.processes import cpu_seconds, free_ports
from svcdns.upstream import dns_packet

NAME: Final = "a.example."
ADDRESS: Final = "192.0.2.1"
COREFILE: Final = """\
.:{ports[0]} https://.:{ports[1]} tls://.:{ports[2]} grpc://.:{ports[3]} {{
    bind 127.0.0.1
    tls {folder}/cert.pem {folder}/key.pem
    hosts {{
        192.0.2.1 a.example
    }}
}}
"""
UDP_EVERY: Final = 0.002
LOADS: Final = {
    "HTTP/2, 4 x 10 at a time": ("-c", "4", "-m", "10"),
    "HTTP/2, one at a time": ("-c", "1", "-m", "1"),
    "HTTP/1.1, 4 connections": ("--h1", "-c", "4"),
}
GRPC: Final = "gRPC, 4 x 10 at a time"
TLS: Final = "TLS, 4 x 10 at a time"


@contextmanager
def running(name: str, folder: Path) -> Iterator[tuple[int, list[int]]]:
    """Runs a server, and yields its process id and its ports for UDP, HTTPS, TLS and gRPC."""
    ports = free_ports(4)
    corefile = folder / f"{name}.Corefile"
    corefile.write_text(COREFILE.format(ports=ports, folder=folder))
    command = [os.environ["COREDNS"]] if name == "coredns" else [sys.executable, "-m", "svcdns"]
    with subprocess.Popen([*command, "-conf", str(corefile)], stdout=subprocess.DEVNULL) as process:
        try:
            _until_ready(ports)
            yield process.pid, ports
        finally:
            process.send_signal(signal.SIGTERM)


def _until_ready(ports: list[int]) -> None:
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        with suppress(OSError), socket.create_connection(("127.0.0.1", ports[1]), 1):
            if over_udp(ports[0], lambda: False):
                return
        time.sleep(0.05)
    raise TimeoutError("the server does not answer")


def over_udp(port: int, goes_on: Callable[[], bool]) -> list[float]:
    """Sends a query every UDP_EVERY seconds while `goes_on()` is true, at least one. Returns the latencies."""
    query, latencies = make_query(NAME), list[float]()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", port))
        while True:
            begun = time.monotonic()
            sock.send(query)
            reply = sock.recv(512)
            latencies.append(time.monotonic() - begun)
            if not has_address(reply, ADDRESS):
                raise ValueError(f"the server did not answer with {ADDRESS}: {reply!r}")
            if not goes_on():
                return latencies
            time.sleep(max(0.0, begun + UDP_EVERY - time.monotonic()))


def measure(pid: int, ports: list[int], load: str, seconds: int, folder: Path) -> tuple[float, ...]:
    """Returns the CPU time per answer in µs, and the p99 of UDP in ms, without the load and during it."""
    ends = time.monotonic() + seconds / 2
    alone, beside, over = over_udp(ports[0], lambda: time.monotonic() < ends), list[float](), threading.Event()
    thread = threading.Thread(target=lambda: beside.extend(over_udp(ports[0], lambda: not over.is_set())))
    thread.start()
    before = cpu_seconds(pid)
    if load == TLS:
        answers = _over_tls(ports[2], seconds, folder)
    elif load == GRPC:
        answers = _over_grpc(ports[3], seconds, folder)
    else:
        answers = _over_https(ports[1], seconds, load, folder)
    spent = cpu_seconds(pid) - before
    over.set()
    thread.join()
    return (spent * 1e6 / answers, *(percentile(one, 0.99) * 1000 for one in (alone, beside)))


def _over_https(port: int, seconds: int, load: str, folder: Path) -> int:
    query = folder / "query"
    query.write_bytes(bytes(2) + make_query(NAME)[2:])
    words = ["-D", str(seconds), *LOADS[load], "-d", str(query), "-H", "content-type: application/dns-message"]
    return _count(["h2load", *words, f"https://127.0.0.1:{port}/dns-query"], r"(\d+) 2xx")


def _over_grpc(port: int, seconds: int, folder: Path) -> int:
    packet = dns_packet.to_packet(make_query(NAME))
    call = folder / "call"
    call.write_bytes(b"\0" + len(packet).to_bytes(4, "big") + packet)
    words = ["-D", str(seconds), "-c", "4", "-m", "10", "-d", str(call), "-H", "content-type: application/grpc"]
    url = f"https://127.0.0.1:{port}{dns_packet.METHOD}"
    return _count(["h2load", *words, "-H", "te: trailers", url], r"(\d+) 2xx")


def _over_tls(port: int, seconds: int, folder: Path) -> int:
    (folder / "queries").write_text("a.example A\n")
    words = ["-m", "dot", "-s", "127.0.0.1", "-p", str(port), "-l", str(seconds), "-c", "4", "-q", "40"]
    return _count(["dnsperf", *words, "-d", str(folder / "queries")], r"Queries completed:\s+(\d+)")


def _count(command: list[str], pattern: str) -> int:
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(pattern, output)
    if found is None:
        raise ValueError(f"{command[0]} did not print a number of answers: {output}")
    return max(1, int(found[1]))


def main() -> int:
    """Runs the rounds, and prints a table of the medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.https", description=__doc__)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    names = ["svcdns", *(["coredns"] if os.environ.get("COREDNS") else [])]
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    with tempfile.TemporaryDirectory(prefix="svcdns-https-") as text:
        folder = Path(text)
        _certificate(folder)
        for _ in range(arguments.rounds):
            for name in names:
                with running(name, folder) as (pid, ports):
                    for load in (*LOADS, GRPC, TLS):
                        figures = measure(pid, ports, load, arguments.seconds, folder)
                        found.setdefault((load, name), []).append(figures)
    print("| Load | Server | CPU µs per answer | UDP p99 ms, alone | UDP p99 ms, beside |")
    print("|---|---|---|---|---|")
    for (load, name), rounds in sorted(found.items()):
        values = [median(column) for column in zip(*rounds, strict=True)]
        print(f"| {load} | {name} | {values[0]:.0f} | {values[1]:.1f} | {values[2]:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
