"""Measures how much misbehaving clients disturb other clients: `python -m bench.attacks [ATTACK...]`.

svcdns is measured, and CoreDNS if the environment variable COREDNS names its binary. The server runs on one core; the
attacker (`bench.attackers`) and well-behaved clients run on another. The well-behaved clients send queries at a fixed
rate over UDP, and open a connection for each query over TCP and TLS.

The table has lost queries, latencies in milliseconds and memory in MiB for each attack. The row `none` has no attacker.
The server `floor` (`bench.floor`) returns each query as its reply, while the attacker attacks another process. The
latency of `floor` is the delay that the machine itself causes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import machine, peers
from bench.attackers import ATTACKS, tls_context
from bench.client import make_query
from bench.cluster import EXTERNAL_ZONE, Cluster, namespace
from bench.open_loop import generate, percentile
from bench.processes import Helper, PssSampler, end_with_parent, free_ports, spawn
from bench.servers import Cores, Server

SOURCES = ("127.0.0.10", "127.0.0.11", "127.0.0.12", "127.0.0.13")
"""The addresses of the well-behaved clients."""
TRANSPORTS = ("udp", "tcp", "tls")
UDP_RATE = 1000
CONNECTION_RATES = {"tcp": 40, "tls": 20}
"""Connections a second."""
_SERVFAIL, _REFUSED = 2, 5
TIMEOUT = 2.0
"""Seconds after which a query over TCP or TLS is lost."""
LEAD = 1.0
"""Seconds between the beginning of the attack and the first query of the well-behaved clients."""
START = 1.0
"""Seconds that the well-behaved clients take to start."""
ENDPOINTS = 40
FLOOR = "floor"
NO_ATTACK = "none"
SHED = re.compile(r"^(svcdns_\w*(?:shed|dropped|refused)\w*)(?:{(.*)})? (\S+)$", re.MULTILINE)

TLS_BLOCK = """\
tls://.:{port} quic://.:{port} https://.:{https} grpc://.:{grpc} {{
    tls {folder}/cert.pem {folder}/key.pem
    kubernetes cluster.local {{
       endpoint http://127.0.0.1:{api}
    }}
}}
"""


@dataclass(frozen=True)
class Figures:
    """The result of the well-behaved clients over one transport: numbers of sent and lost queries, and latencies in
    ms.
    """

    sent: int
    lost: int
    p50: float
    p99: float

    @classmethod
    def of(cls, latency: Sequence[float], failed: int = 0) -> Figures:
        """Returns the figures for latencies in seconds. A lost query has an infinite latency.

        `failed` is the number of replies SERVFAIL and REFUSED, which also count as lost.
        """
        p50, p99 = (percentile(latency, share) * 1000 for share in (0.5, 0.99))
        return cls(len(latency), sum(map(math.isinf, latency)) + failed, p50, p99)

    def __str__(self) -> str:
        return f"{self.lost} of {self.sent} lost, p50 {self.p50:.2f}, p99 {self.p99:.2f}"


@dataclass(frozen=True)
class Measurement:
    """The figures of one server during one attack, by transport.

    `mib` is the memory in MiB, or 0 if it is unknown. `sheds` has the numbers of queries and connections that the
    server dropped under overload, by reason.
    """

    figures: Mapping[str, Figures]
    mib: float = 0.0
    sheds: str = ""

    @property
    def lost(self) -> int:
        """Returns the number of lost queries of all transports."""
        return sum(one.lost for one in self.figures.values())

    def latencies(self, share: str) -> str:
        """Returns `p50` or `p99` of UDP, TCP and TLS as a cell of the table. A dash means that this query was lost."""
        values = [getattr(self.figures[transport], share) for transport in TRANSPORTS]
        return " / ".join("–" if math.isinf(value) else f"{value:.1f}" for value in values)

    def __str__(self) -> str:
        lines = [f"  {transport}: {one}" for transport, one in self.figures.items()]
        return "\n".join([*lines, f"  {self.mib:.0f} MiB; {self.sheds}"])


# -- well-behaved clients, each transport in its own process


def well_behaved(transport: str, port: int, seconds: float) -> Figures:
    """Sends queries as well-behaved clients over one transport (udp, tcp or tls), and returns their figures."""
    cluster = Cluster(1000)
    begins = time.monotonic() + START
    if transport == "udp":
        queries = udp_queries(cluster)
        time.sleep(max(0.0, begins - time.monotonic()))
        sample = generate(port, queries, UDP_RATE, seconds, 64, SOURCES)
        return Figures.of(sample.latency, sum(sample.codes.count(code) for code in (_SERVFAIL, _REFUSED)))
    rate = CONNECTION_RATES[transport]
    context = tls_context() if transport == "tls" else None
    latency = []
    for number in range(int(rate * seconds)):
        query = make_query(cluster.fqdn(number))
        time.sleep(max(0.0, begins + number / rate - time.monotonic()))
        latency.append(_over_connection(SOURCES[number % len(SOURCES)], port, query, context))
    return Figures.of(latency)


def udp_queries(cluster: Cluster) -> list[bytes]:
    """Returns a mixture of queries: 60 % for Services, 20 % for nonexistent names, 10 % for Pods, 10 % for external
    names.
    """
    marker = os.getpid()
    found = []
    for n in range(0, 40_000, 10):
        names = [cluster.fqdn((n + k) % cluster.services) for k in range(6)]
        names += [f"other-{marker}-{n + k}.{namespace(n)}.svc.cluster.local" for k in range(2)]
        names += [f"172-16-{n >> 8}-{n & 255}.default.pod.cluster.local", f"name-{n}.{EXTERNAL_ZONE}"]
        found += [make_query(name) for name in names]
    return found


def _over_connection(source: str, port: int, query: bytes, context: ssl.SSLContext | None) -> float:
    """Opens a connection, sends one query, and returns the seconds until the reply.

    Returns infinity if there is no reply.
    """
    begun = time.monotonic()
    try:
        with ExitStack() as stack:
            address = ("127.0.0.1", port)
            sock = stack.enter_context(socket.create_connection(address, TIMEOUT, source_address=(source, 0)))
            if context is not None:
                sock = stack.enter_context(context.wrap_socket(sock))
            sock.sendall(len(query).to_bytes(2, "big") + query)
            if len(sock.recv(4096)) < 2:
                return math.inf
            return time.monotonic() - begun
    except OSError:
        return math.inf


# -- one measurement


def measure(name: str, attack: str, seconds: float, cores: Cores, *, first: bool = False) -> Measurement:
    """Starts a server, runs one attack and the well-behaved clients, and returns the measurement."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="svcdns-attacks-")))
        _certificate(folder)
        if name == FLOOR:
            return _measure_floor(stack, folder, attack, seconds, cores, first=first)
        upstream = Helper("bench.upstream", cpus=cores.client)
        stack.callback(upstream.close)
        _prefer_client(upstream.process.pid)
        cluster = Cluster(1000, ENDPOINTS)
        api = Helper("bench.api", "--services", "1000", "--endpoints", str(ENDPOINTS), cpus=cores.client)
        ports = free_ports(7)
        block = TLS_BLOCK.format(port=ports[4], https=ports[5], grpc=ports[6], folder=folder, api=api.port)
        http = dict(zip(("health", "ready", "metrics"), ports[1:4], strict=True))
        config = peers.ServerConfig(cluster, ports[0], upstream.port, api.port, http_ports=http, more_blocks=block)
        server = Server(name, config, folder, cores, api)
        stack.callback(server.stop)
        if first:
            _prefer(server.process.pid, -20)
        server.wait()
        time.sleep(1.0)
        for query in udp_queries(cluster)[:600]:
            _warm(server.port, query)
        memory = stack.enter_context(PssSampler(server.process.pid, 0.5))
        where = (server.port, *ports[4:])
        _attack(stack, attack, where, seconds, cores, first=first)
        figures = _run_clients(where, seconds, cores)
        time.sleep(2.5)
        sheds = ", ".join(
            f"{one}{{{labels}}} {value}"
            for one, labels, value in SHED.findall(server.page("metrics")[1])
            if float(value)
        )
        alive = "" if server.process.poll() is None else "EXITED "
        return Measurement(figures, memory.peak, alive + sheds)


def _measure_floor(
    stack: ExitStack, folder: Path, attack: str, seconds: float, cores: Cores, *, first: bool
) -> Measurement:
    """Measures a server that returns each query as its reply, while the attacker attacks another process."""
    ports: list[tuple[int, ...]] = []
    for words in (("echo", str(folder)), ("sink",)):
        command = [sys.executable, "-m", "bench.floor", *words]
        process = spawn(command, cores.server, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stack.enter_context(process)
        stack.callback(process.terminate)
        if first:
            _prefer(process.pid, -20)
        assert process.stdout is not None
        port, tls_port = map(int, process.stdout.readline().split())
        ports.append((port, tls_port, tls_port, tls_port))
    _attack(stack, attack, ports[attack != "idle-tls"], seconds, cores, first=first)
    return Measurement(_run_clients(ports[0], seconds, cores))


def _attack(
    stack: ExitStack, attack: str, where: tuple[int, ...], seconds: float, cores: Cores, *, first: bool
) -> None:
    """Starts an attack, and waits until it is in progress. The attack ends when `stack` is closed.

    `where` has the ports for UDP and TCP, TLS and QUIC, HTTPS, and gRPC.
    """
    if attack == NO_ATTACK:
        return
    words = (attack, str(LEAD + START + seconds + 1), *map(str, where))
    attacker = spawn([sys.executable, "-m", "bench.attackers", *words], cores.client, stdout=subprocess.PIPE)
    if first:
        _prefer(attacker.pid, -10)
    stack.callback(attacker.wait, 30)
    stack.callback(attacker.terminate)
    assert attacker.stdout is not None
    stack.enter_context(attacker.stdout)
    attacker.stdout.readline()
    time.sleep(LEAD)


def _run_clients(where: tuple[int, ...], seconds: float, cores: Cores) -> dict[str, Figures]:
    """Runs the well-behaved clients of all transports at the same time, and returns their figures."""
    ourselves = (sys.executable, "-m", "bench.attacks")
    clients = {}
    for transport in TRANSPORTS:
        words = ("--well-behaved", transport, "--port", str(where[transport == "tls"]), "--seconds", str(seconds))
        clients[transport] = spawn([*ourselves, *words], cores.client, stdout=subprocess.PIPE)
    return {one: Figures(**json.loads(process.communicate()[0])) for one, process in clients.items()}


def _prefer(pid: int, nice: int) -> None:
    """Sets the nice value of a session (autogroup, sched(7)), for the choice between programs of several sessions."""
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))


def _prefer_client(pid: int = 0) -> None:
    """Gives a process priority over the attacker on the same core. `pid` 0 means this process."""
    with suppress(PermissionError):
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))


def _warm(port: int, query: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        for _ in range(2):
            with suppress(OSError):
                sock.sendto(query, ("127.0.0.1", port))
                sock.recv(4096)


def _certificate(folder: Path) -> None:
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=dns.test -addext subjectAltName=DNS:dns.test -keyout key.pem -out cert.pem"
    subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)


# -- the table


def table(results: Mapping[str, Mapping[str, Measurement]]) -> str:
    """Returns the table in Markdown. `results` has the measurements by attack and server."""
    servers = [name for name in next(iter(results.values())) if name != FLOOR]
    head = ["Attack", "floor p99"]
    for name in servers:
        head += [f"{name} lost", "p50", "p99", "MiB"]
    rows = [head, ["---"] * len(head)]
    for attack, measured in results.items():
        row = [_title(attack), measured[FLOOR].latencies("p99") if FLOOR in measured else ""]
        for one in (measured[name] for name in servers):
            row += [str(one.lost), one.latencies("p50"), one.latencies("p99"), f"{one.mib:.0f}"]
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _title(attack: str) -> str:
    return "no attack" if attack == NO_ATTACK else ATTACKS[attack].title


def main(argv: list[str] | None = None) -> int:
    """Runs the attacks, and prints their results. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=__doc__)
    parser.add_argument("attacks", nargs="*", help=f"attacks to run: {NO_ATTACK}, {', '.join(ATTACKS)} (all)")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    parser.add_argument("--servers", default=f"{FLOOR},{','.join(peers.WATCHERS)}", help="servers, with commas (all)")
    parser.add_argument(
        "--first", action="store_true", help="run server and attacker before other programs of the machine"
    )
    parser.add_argument("--well-behaved", choices=TRANSPORTS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.well_behaved:
        end_with_parent()
        _prefer_client()
        print(json.dumps(vars(well_behaved(arguments.well_behaved, arguments.port, arguments.seconds))))
        return 0
    chosen = arguments.servers.split(",")
    servers = [name for name in chosen if name == FLOOR or not peers.why_unavailable(name)]
    print(json.dumps(machine.environment([name for name in servers if name != FLOOR])))
    cores = Cores([arguments.server_core], [arguments.client_core])
    os.sched_setaffinity(0, cores.client)
    results: dict[str, dict[str, Measurement]] = {}
    for attack in arguments.attacks or (NO_ATTACK, *ATTACKS):
        results[attack] = {}
        for name in servers:
            found = results[attack][name] = measure(name, attack, arguments.seconds, cores, first=arguments.first)
            print(f"{attack}, {name}:\n{found}", flush=True)
    print(f"\n{table(results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
