"""Measures CPU time and latency with the plugin *dnssec*: `python -m bench.signing KEY...`.

KEY is a key of `dnssec-keygen` for `example.org`. svcdns is measured, and CoreDNS if the environment variable COREDNS
names its binary. In each round, each server gets the same queries with the DO bit, one server after the other. Each
*cold* query has a new name, so that its reply needs a new signature. During each load, a client sends queries for an
unsigned name at an even rate. CPU time is that of all processes of a server.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from bench import dnsperf
from bench.client import make_query
from bench.encrypted import NAME, UDP_RATE, over_udp
from bench.open_loop import percentile
from bench.processes import cpu_seconds, free_ports, until

WARM: Final = 100
"""The number of names in a file of warm queries."""
LOADS: Final = {
    "answer, warm": "x{}.wild.example.org A",
    "denial, warm": "no{}.example.org A",
    "answer, cold": "y{}.wild.example.org A",
    "denial, cold": "none{}.example.org A",
}
ZONE: Final = "$TTL 300\n@ IN SOA ns admin 1 2 3 4 300\n@ IN NS ns\nns IN A 192.0.2.53\n*.wild IN A 192.0.2.1\n"
COREFILE: Final = (
    "example.org:{port} {{\n bind 127.0.0.1\n dnssec {{\n key file {keys}\n }}\n file {folder}/zone\n}}\n"
    ".:{port} {{\n bind 127.0.0.1\n hosts {{\n 192.0.2.1 a.example\n }}\n}}\n"
)


@contextmanager
def running(name: str, folder: Path, keys: list[str]) -> Iterator[tuple[int, int]]:
    """Runs a server, and yields its process id and its port."""
    (port,) = free_ports(1)
    corefile = folder / f"{name}.Corefile"
    corefile.write_text(COREFILE.format(port=port, folder=folder, keys=" ".join(keys)))
    command = [os.environ["COREDNS"]] if name == "coredns" else [sys.executable, "-m", "svcdns"]
    with subprocess.Popen([*command, "-conf", str(corefile)], stdout=subprocess.DEVNULL) as process:
        try:
            until("the first answer", lambda: _answers(port), 40)
            yield process.pid, port
        finally:
            process.send_signal(signal.SIGTERM)


def _answers(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect(("127.0.0.1", port))
        try:
            sock.send(make_query(NAME))
            return bool(sock.recv(512))
        except OSError:
            return False


def _measure(pid: int, port: int, path: Path, seconds: int) -> tuple[float, float, float]:
    """Returns CPU µs for each answer, answers per second, and the p99 of the unsigned queries in ms."""
    beside: list[float] = []
    before = cpu_seconds(pid)
    thread = threading.Thread(target=lambda: beside.extend(over_udp(port, max(seconds, 2))))
    thread.start()
    figures = dnsperf.run(dnsperf.Load(seconds, dnssec_ok=True), port, path, sorted(os.sched_getaffinity(0)))
    thread.join()
    dnsperf.check(figures, 0)
    spent = cpu_seconds(pid) - before
    return spent * 1e6 / (figures.completed + len(beside)), figures.rate, percentile(beside, 0.99) * 1000


def main() -> int:
    """Runs the rounds, and prints a table of the medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.signing", description=__doc__)
    parser.add_argument("keys", nargs="+", metavar="KEY")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", type=int, default=20_000, help="the number of cold queries of a kind")
    arguments = parser.parse_args()
    names = ["svcdns", *(["coredns"] if os.environ.get("COREDNS") else [])]
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    with tempfile.TemporaryDirectory(prefix="svcdns-signing-") as text:
        folder = Path(text)
        (folder / "zone").write_text(ZONE)
        for load, query in LOADS.items():
            count = WARM if "warm" in load else arguments.cold
            (folder / load).write_text("".join(f"{query.format(number)}\n" for number in range(count)))
        for _ in range(arguments.rounds):
            for name in names:
                with running(name, folder, [str(Path(key).resolve()) for key in arguments.keys]) as (pid, port):
                    for load in LOADS:
                        seconds = arguments.seconds if "warm" in load else 0
                        found.setdefault((load, name), []).append(_measure(pid, port, folder / load, seconds))
    print(
        f"| Load | Server | CPU µs per answer | answers/s | p99 ms of {UDP_RATE} unsigned queries/s |\n|---|---|---|---|---|"
    )
    for load in LOADS:
        for name in names:
            values = [median(column) for column in zip(*found[load, name], strict=True)]
            print(f"| {load} | {name} | {values[0]:.0f} | {values[1]:.0f} | {values[2]:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
