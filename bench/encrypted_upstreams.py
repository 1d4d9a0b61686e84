"""Measures the CPU time of queries that go to an encrypted upstream: `python -m bench.encrypted_upstreams`.

svcdns is measured, and CoreDNS if the environment variable COREDNS names its binary. The upstream is a svcdns with the
plugin *template*. The program dnsperf queries names over UDP, each name once. In each round, each server forwards the
same number of queries at a time, one server after the other. CPU time is that of all processes of a server.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Final

from bench.attacks import _certificate
from bench.https import _count, over_udp
from bench.processes import cpu_seconds, free_ports

UPSTREAM: Final = """\
tls://.:{ports[0]} https://.:{ports[1]} grpc://.:{ports[2]} .:{ports[3]} {{
    bind 127.0.0.1
    tls {folder}/cert.pem {folder}/key.pem
    template IN A {{
        answer "{{{{ .Name }}}} 60 IN A 192.0.2.1"
    }}
}}
"""
PLUGINS: Final = {
    "UDP": "forward . 127.0.0.1:{ports[3]}",
    "TLS": "forward . tls://127.0.0.1:{ports[0]} {{\n tls {folder}/cert.pem\n tls_servername dns.test\n }}",
    "HTTPS": "forward . https://127.0.0.1:{ports[1]} {{\n tls {folder}/cert.pem\n tls_servername dns.test\n }}",
    "gRPC": "grpc . 127.0.0.1:{ports[2]} {{\n tls {folder}/cert.pem\n tls_servername dns.test\n }}",
}
"""The plugin that forwards queries, by the transport of the upstream."""


@contextmanager
def running(command: list[str], corefile: Path, text: str, port: int) -> Iterator[int]:
    """Runs a server until the end of the context, and yields its process id when it answers on `port`."""
    corefile.write_text(text)
    with subprocess.Popen([*command, "-conf", str(corefile)], stdout=subprocess.DEVNULL) as process:
        try:
            _until_it_answers(port)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)


def _until_it_answers(port: int) -> None:
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        with suppress(OSError):
            over_udp(port, lambda: False)
            return
        time.sleep(0.05)
    raise TimeoutError("the server does not answer")


def measure(pid: int, port: int, seconds: int, queries: Path) -> tuple[float, float]:
    """Returns the CPU time per answer in µs, and the answers a second."""
    before, begun = cpu_seconds(pid), time.monotonic()
    words = ["-s", "127.0.0.1", "-p", str(port), "-l", str(seconds), "-c", "16", "-q", "64", "-n", "1"]
    answers = _count(["dnsperf", *words, "-d", str(queries)], r"Queries completed:\s+(\d+)")
    return (cpu_seconds(pid) - before) * 1e6 / answers, answers / (time.monotonic() - begun)


def main() -> int:
    """Runs the rounds, and prints a table of the medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.encrypted_upstreams", description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    ours = [sys.executable, "-m", "svcdns"]
    commands = {"svcdns": ours} | ({"coredns": [os.environ["COREDNS"]]} if os.environ.get("COREDNS") else {})
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="svcdns-upstreams-") as text:
        folder, ports = Path(text), free_ports(5)
        _certificate(folder)
        queries, numbers = folder / "queries", iter(range(sys.maxsize))
        upstream = UPSTREAM.format(ports=ports, folder=folder)
        with running(ours, folder / "upstream", upstream, ports[3]):
            for _ in range(arguments.rounds):
                for transport, plugin in PLUGINS.items():
                    for name, command in commands.items():
                        corefile = (
                            f".:{ports[4]} {{\n bind 127.0.0.1\n {plugin.format(ports=ports, folder=folder)}\n}}\n"
                        )
                        queries.write_text("".join(f"n{next(numbers)}.test A\n" for _ in range(200_000)))
                        with running(command, folder / name, corefile, ports[4]) as pid:
                            found.setdefault((transport, name), []).append(
                                measure(pid, ports[4], arguments.seconds, queries)
                            )
    print("| Upstream | Server | CPU µs per answer | answers a second |")
    print("|---|---|---|---|")
    for (transport, name), rounds in found.items():
        values = [median(column) for column in zip(*rounds, strict=True)]
        print(f"| {transport} | {name} | {values[0]:.0f} | {values[1]:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
