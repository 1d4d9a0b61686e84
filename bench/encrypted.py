"""Measures CPU time and latency of DNS over QUIC and HTTP/3: `python -m bench.encrypted`.

svcdns is measured, and CoreDNS if the environment variable COREDNS names its binary. In each round, each server answers
the same queries over the same number of connections, one server after the other. A further client sends queries over
UDP at an even rate, first without this load and then during it. CPU time is that of all processes of a server.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived

from bench.attacks import _certificate
from bench.client import has_address, make_query
from bench.open_loop import percentile
from bench.processes import cpu_seconds, free_ports

NAME: Final = "a.example."
ADDRESS: Final = "192.0.2.1"
TRANSPORTS: Final = {"quic": "doq", "https3": "h3"}
CONNECTIONS: Final = 4
AT_ONCE: Final = 4
"""The number of connections, and the number of queries that each connection has at the same time."""
UDP_RATE: Final = 500
HOSTS: Final = "hosts {\n  192.0.2.1 a.example\n }\n"
COREFILE: Final = (
    ".:{ports[0]} {{\n bind 127.0.0.1\n {hosts}}}\n"
    "quic://.:{ports[1]} {{\n bind 127.0.0.1\n tls {folder}/cert.pem {folder}/key.pem\n {hosts}}}\n"
    "https3://.:{ports[2]} {{\n bind 127.0.0.1\n tls {folder}/cert.pem {folder}/key.pem\n {hosts}}}\n"
)


class Client(QuicConnectionProtocol):
    """One connection, which sends the next query when a reply has come."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._open: dict[int, asyncio.Future[None]] = {}
        alpn = self._quic.configuration.alpn_protocols or []
        self._http = H3Connection(self._quic) if "h3" in alpn else None

    def quic_event_received(self, event: QuicEvent) -> None:
        """Completes the query of a stream when its reply has come."""
        if self._http is not None:
            ended = [
                e.stream_id for e in self._http.handle_event(event) if isinstance(e, DataReceived) and e.stream_ended
            ]
        else:
            ended = [event.stream_id] if isinstance(event, StreamDataReceived) and event.end_stream else []
        for stream in ended:
            found = self._open.pop(stream, None)
            if found is not None and not found.done():
                found.set_result(None)

    async def ask(self, query: bytes) -> None:
        """Sends a query with the message ID 0, and waits for its reply."""
        stream = self._quic.get_next_available_stream_id()
        done = self._open[stream] = asyncio.get_running_loop().create_future()
        if self._http is None:
            self._quic.send_stream_data(stream, len(query).to_bytes(2, "big") + query, end_stream=True)
        else:
            path = b"/dns-query?dns=" + urlsafe_b64encode(query).rstrip(b"=")
            fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"dns.test"), (b":path", path)]
            self._http.send_headers(stream, fields, end_stream=True)
        self.transmit()
        await done


async def load(transport: str, port: int, seconds: float) -> list[float]:
    """Sends queries over CONNECTIONS connections for some seconds. Returns the latencies in seconds."""
    query, latencies = bytes(2) + make_query(NAME)[2:], list[float]()

    async def one() -> None:
        configuration = QuicConfiguration(alpn_protocols=[TRANSPORTS[transport]], verify_mode=ssl.CERT_NONE)
        async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Client) as client:
            assert isinstance(client, Client)
            await asyncio.gather(*(asking(client) for _ in range(AT_ONCE)))

    async def asking(client: Client) -> None:
        ends = time.monotonic() + seconds
        while (begun := time.monotonic()) < ends:
            await asyncio.wait_for(client.ask(query), 20)
            latencies.append(time.monotonic() - begun)

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return latencies


def over_udp(port: int, seconds: float) -> list[float]:
    """Sends UDP_RATE queries a second over UDP. Returns their latencies in seconds."""
    query, latencies = make_query(NAME), list[float]()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", port))
        due = time.monotonic()
        ends = due + seconds
        while due < ends:
            time.sleep(max(0.0, due - time.monotonic()))
            begun = time.monotonic()
            sock.send(query)
            reply = sock.recv(512)
            latencies.append(time.monotonic() - begun)
            if not has_address(reply, ADDRESS):
                raise ValueError(f"the server did not answer with {ADDRESS}: {reply!r}")
            due += 1 / UDP_RATE
    return latencies


@contextmanager
def running(name: str, folder: Path) -> Iterator[tuple[int, list[int]]]:
    """Runs a server, and yields its process id and its ports for UDP, QUIC and HTTP/3."""
    ports = free_ports(3)
    corefile = folder / f"{name}.Corefile"
    corefile.write_text(COREFILE.format(ports=ports, folder=folder, hosts=HOSTS))
    command = [os.environ["COREDNS"]] if name == "coredns" else [sys.executable, "-m", "svcdns"]
    with subprocess.Popen([*command, "-conf", str(corefile)], stdout=subprocess.DEVNULL) as process:
        try:
            asyncio.run(_until_ready(ports[1]))
            yield process.pid, ports
        finally:
            process.send_signal(signal.SIGTERM)


async def _until_ready(port: int) -> None:
    for _ in range(40):
        try:
            await asyncio.wait_for(load("quic", port, 0.1), 2)
        except (ConnectionError, TimeoutError):
            continue
        return
    raise TimeoutError("the server does not answer")


def main() -> int:
    """Runs the rounds, and prints a table of the medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.encrypted", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    names = ["svcdns", *(["coredns"] if os.environ.get("COREDNS") else [])]
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    with tempfile.TemporaryDirectory(prefix="svcdns-encrypted-") as folder:
        _certificate(Path(folder))
        for _ in range(arguments.rounds):
            for name in names:
                with running(name, Path(folder)) as (pid, ports):
                    for number, transport in enumerate(TRANSPORTS, 1):
                        figures = _measure(pid, transport, ports[0], ports[number], arguments.seconds)
                        found.setdefault((transport, name), []).append(figures)
    print("| Transport | Server | CPU µs per answer | p50 ms | p99 ms | UDP p99 ms, alone | UDP p99 ms, beside |")
    print("|---|---|---|---|---|---|---|")
    for (transport, name), rounds in sorted(found.items()):
        values = [median(column) for column in zip(*rounds, strict=True)]
        print(
            f"| {transport} | {name} | {values[0]:.0f} | " + " | ".join(f"{value:.2f}" for value in values[1:]) + " |"
        )
    return 0


def _measure(pid: int, transport: str, udp: int, port: int, seconds: float) -> tuple[float, ...]:
    with ProcessPoolExecutor(1) as pool:  # a thread would wait for the interpreter lock of the load
        alone = pool.submit(over_udp, udp, seconds).result()
        before = cpu_seconds(pid)
        waiting = pool.submit(over_udp, udp, seconds)
        latencies = asyncio.run(load(transport, port, seconds))
        beside = waiting.result()
        spent = cpu_seconds(pid) - before
    milliseconds = [percentile(latencies, share) * 1000 for share in (0.5, 0.99)]
    udp_times = [percentile(one, 0.99) * 1000 for one in (alone, beside)]
    return (spent * 1e6 / len(latencies), *milliseconds, *udp_times)


if __name__ == "__main__":
    sys.exit(main())
