"""Measures how much misbehaving clients disturb other clients: `python -m bench.attacks [ATTACK...]`.

svcdns is measured, and CoreDNS if the environment variable COREDNS names its binary. The server runs on one core; the
attacker (`bench.attackers`, from one address) and the well-behaved clients (from other addresses) run on another core.
Everything happens on loopback, for a bounded time. A new server is started for each attack.

The well-behaved clients send queries at a fixed rate over UDP, and open a connection for each query over TCP and TLS.
The table, in Markdown, has for each transport the lost queries, the median and the 99th percentile of the latency in
milliseconds. It also has the memory of the server (the largest sum of PSS), and how many queries and connections the
server gave up, by reason. The row `none` is measured without an attacker, and shows the noise of the machine.
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
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import machine, peers
from bench.attackers import ATTACKS
from bench.client import make_query
from bench.cluster import EXTERNAL_ZONE, Cluster, namespace
from bench.open_loop import generate, percentile
from bench.processes import Helper, PssSampler, end_with_parent, free_ports, spawn
from bench.servers import Cores, Server

SOURCES = ("127.0.0.10", "127.0.0.11", "127.0.0.12", "127.0.0.13")
"""The addresses of the well-behaved clients."""
UDP_RATE = 1000
CONNECTION_RATE = 20
"""Connections a second over TCP, and a quarter of them over TLS."""
_SERVFAIL, _REFUSED = 2, 5
TIMEOUT = 2.0
"""Seconds after which a query over TCP or TLS is lost."""
LEAD = 1.0
"""Seconds between the beginning of the attack and the first query of the well-behaved clients."""
ENDPOINTS = 40
SHED = re.compile(r"^(svcdns_\w*(?:shed|dropped|refused)\w*)(?:{(.*)})? (\S+)$", re.MULTILINE)

TLS_BLOCK = """\
tls://.:{port} {{
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
        """Returns the figures for a list of latencies in seconds, in which a lost query has an infinite latency.

        `failed` is the number of queries with the response code SERVFAIL or REFUSED, which count as lost.
        """
        p50, p99 = (percentile(latency, share) * 1000 for share in (0.5, 0.99))
        return cls(len(latency), sum(map(math.isinf, latency)) + failed, p50, p99)

    def __str__(self) -> str:
        return f"{self.lost} of {self.sent} | {self.p50:.2f} | {self.p99:.2f}"


# -- well-behaved clients, each transport in its own process


def well_behaved(transport: str, port: int, seconds: float) -> Figures:
    """Sends queries as well-behaved clients over one transport (udp, tcp or tls), and returns their figures."""
    cluster = Cluster(1000)
    if transport == "udp":
        sample = generate(port, udp_queries(cluster), UDP_RATE, seconds, 64, SOURCES)
        return Figures.of(sample.latency, sum(sample.codes.count(code) for code in (_SERVFAIL, _REFUSED)))
    rate = CONNECTION_RATE if transport == "tcp" else CONNECTION_RATE / 4
    _over_connection(SOURCES[0], port, make_query(cluster.fqdn(0)), secure=transport == "tls")  # imports modules
    latency, begun = [], time.monotonic()
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, begun + number / rate - time.monotonic()))
        query = make_query(cluster.fqdn(number))
        latency.append(_over_connection(SOURCES[number % len(SOURCES)], port, query, secure=transport == "tls"))
    return Figures.of(latency)


def udp_queries(cluster: Cluster) -> list[bytes]:
    """Returns a mixture of queries: of ten, six for Services, two for nonexistent names, one for a Pod, one external
    name.
    """
    marker = os.getpid()
    found = []
    for n in range(0, 40_000, 10):
        names = [cluster.fqdn((n + k) % cluster.services) for k in range(6)]
        names += [f"other-{marker}-{n + k}.{namespace(n)}.svc.cluster.local" for k in range(2)]
        names += [f"172-16-{n >> 8}-{n & 255}.default.pod.cluster.local", f"name-{n}.{EXTERNAL_ZONE}"]
        found += [make_query(name) for name in names]
    return found


def _over_connection(source: str, port: int, query: bytes, *, secure: bool) -> float:
    """Opens a connection, sends one query, and returns the seconds until the reply; infinity if no reply comes."""
    begun = time.monotonic()
    try:
        with ExitStack() as stack:
            sock = stack.enter_context(
                socket.create_connection(("127.0.0.1", port), TIMEOUT, source_address=(source, 0))
            )
            if secure:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                sock = stack.enter_context(context.wrap_socket(sock))
            sock.sendall(len(query).to_bytes(2, "big") + query)
            if len(sock.recv(4096)) < 2:
                return math.inf
    except OSError:
        return math.inf
    return time.monotonic() - begun


# -- one measurement


def measure(name: str, attack: str, seconds: float, cores: Cores, *, first: bool = False) -> str:
    """Starts a server, runs one attack and the well-behaved clients, and returns the row of the table."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="svcdns-attacks-")))
        _certificate(folder)
        upstream = Helper("bench.upstream", cpus=cores.client)
        stack.callback(upstream.close)
        cluster = Cluster(1000, ENDPOINTS)
        api = Helper("bench.api", "--services", "1000", "--endpoints", str(ENDPOINTS), cpus=cores.client)
        ports = free_ports(5)
        block = TLS_BLOCK.format(port=ports[4], folder=folder, api=api.port)
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
        where = (str(server.port), str(ports[4]))
        if attack != "none":
            command = [sys.executable, "-m", "bench.attackers", attack, *where, str(seconds + LEAD + 1)]
            attacker = spawn(command, cores.client, stdout=subprocess.PIPE)
            if first:
                _prefer(attacker.pid, -10)
            stack.callback(attacker.wait, 30)
            stack.callback(attacker.terminate)
            assert attacker.stdout is not None
            stack.enter_context(attacker.stdout)
            attacker.stdout.readline()
            time.sleep(LEAD)
        ourselves = (sys.executable, "-m", "bench.attacks")
        clients = {
            transport: spawn(
                [*ourselves, "--well-behaved", transport, "--port", port, "--seconds", str(seconds)],
                cores.client,
                stdout=subprocess.PIPE,
            )
            for transport, port in (("udp", where[0]), ("tcp", where[0]), ("tls", where[1]))
        }
        figures = [Figures(**json.loads(process.communicate()[0])) for process in clients.values()]
        time.sleep(2.5)
        sheds = ", ".join(
            f"{one}{{{labels}}} {value}"
            for one, labels, value in SHED.findall(server.page("metrics")[1])
            if float(value)
        )
        alive = "" if server.process.poll() is None else "EXITED "
        return " | ".join([attack, name, *map(str, figures), f"{memory.peak:.0f}", alive + sheds])


def _prefer(pid: int, nice: int) -> None:
    """Sets the nice value of a session (autogroup, sched(7)), which decides between programs of several sessions."""
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))


def _warm(port: int, query: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        for _ in range(2):
            with suppress(OSError):
                sock.sendto(query, ("127.0.0.1", port))
                sock.recv(4096)


def _certificate(folder: Path) -> None:
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=dns.test -keyout key.pem -out cert.pem"
    subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)


def main(argv: list[str] | None = None) -> int:
    """Runs the attacks and prints the table. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=__doc__)
    parser.add_argument("attacks", nargs="*", help=f"attacks to run: none, {', '.join(ATTACKS)} (all)")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    parser.add_argument(
        "--first", action="store_true", help="run server and attacker before other programs of the machine"
    )
    parser.add_argument("--well-behaved", choices=("udp", "tcp", "tls"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.well_behaved:
        end_with_parent()
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        print(json.dumps(vars(well_behaved(arguments.well_behaved, arguments.port, arguments.seconds))))
        return 0
    servers = [name for name in peers.WATCHERS if not peers.why_unavailable(name)]
    print(json.dumps(machine.environment(servers)))
    transports = "".join(f" {one} lost | {one} p50 | {one} p99 |" for one in ("UDP", "TCP", "TLS"))
    print(f"| attack | server |{transports} MiB | shed |\n|{'---|' * 13}")
    cores = Cores([arguments.server_core], [arguments.client_core])
    os.sched_setaffinity(0, cores.client)
    for attack in arguments.attacks or ("none", *ATTACKS):
        for name in servers:
            print(f"| {measure(name, attack, arguments.seconds, cores, first=arguments.first)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
