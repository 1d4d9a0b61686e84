"""A rolling restart of two replicas behind a load balancer: `python -m bench.replicas [--peer coredns]`.

A replica is stopped like a Pod (SIGTERM, then five seconds of lame duck) and started again. The second one is stopped
when the first one is ready again. Meanwhile, dnsperf and a checker send queries. The exit code is 1 if a query was lost
or a response was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import dnsperf, peers, queries
from bench.checker import Checker
from bench.checker import queries as checker_queries
from bench.client import write_queries
from bench.cluster import Cluster
from bench.dnsperf import BrokenError, Figures, Load
from bench.endpoint_history import EndpointHistory
from bench.processes import Helper
from bench.servers import Cores, Server, ServerGroup

RATE = 5_000
SECONDS = 45
LEAD = 3.0


class Replicas:
    """Two servers, each with its own API server, and the load balancer in front of them."""

    def __init__(self, server_groups: list[ServerGroup], name: str, cores: Cores) -> None:
        self.name, self.server_groups, self._cores = name, server_groups, cores
        self.servers: list[Server] = [server_group.servers[name] for server_group in server_groups]
        self.load_balancer = Helper(
            "bench.load_balancer",
            *(f"{server.config.http_ports['ready']}:{server.port}" for server in self.servers),
            cpus=cores.client,
        )

    async def until_ready(self, count: int) -> None:
        """Waits until the load balancer has `count` ready replicas. Raises TimeoutError after 60 seconds."""
        async with asyncio.timeout(60):
            while await asyncio.to_thread(self.load_balancer.request, "replicas") != count:
                await asyncio.sleep(0.05)

    async def restart(self, number: int) -> None:
        """Stops a replica, starts it again, and waits until all replicas are ready.

        Raises BrokenError if the exit code of the replica is not 0.
        """
        server = self.servers[number]
        server.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(server.process.wait, 30)
        if code != 0:
            raise BrokenError(f"{self.name} exited with {code}: {server.log()}")
        server.start(self._cores)
        await self.until_ready(len(self.servers))


async def rolling(replicas: Replicas, cluster: Cluster, cores: Cores, path: Path) -> tuple[Figures, Checker]:
    """Restarts the replicas one after the other under load. Returns dnsperf's figures, and the checker with its counts.

    Raises BrokenError if the restarts take longer than the load.
    """
    history = EndpointHistory(cluster)
    port = replicas.load_balancer.port
    checker = Checker(
        port, checker_queries(cluster, history, cluster.headless(), 20_000), udp_rate=300, tcp_rate=300, connections=100
    )
    await replicas.until_ready(len(replicas.servers))
    load = asyncio.create_task(asyncio.to_thread(dnsperf.run, Load(SECONDS, RATE, 64, 5000), port, path, cores.client))
    checking = asyncio.create_task(checker.run())
    await asyncio.sleep(LEAD)
    for number in range(len(replicas.servers)):
        await replicas.restart(number)
    if load.done():
        raise BrokenError(f"{replicas.name}: the restart took longer than the load of {SECONDS} s")
    figures = await load
    checker.stop()
    await checking
    return figures, checker


def main() -> int:
    """Runs the rolling restart, and prints the numbers of lost queries and wrong responses. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default="svcdns", choices=peers.WATCHERS)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=10)
    options = parser.parse_args()
    if not shutil.which("dnsperf") or peers.why_unavailable(options.peer):
        print(f"bench: {peers.why_unavailable(options.peer) or 'dnsperf is not in PATH'}", file=sys.stderr)
        return 2
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[-1:])
    cores = Cores(cpus[:1], cpus[-1:])
    cluster = Cluster(options.services, options.endpoints)
    with (
        ServerGroup(cluster, [options.peer], cores) as one,
        ServerGroup(cluster, [options.peer], cores) as other,
        TemporaryDirectory() as folder,
    ):
        path = write_queries(Path(folder) / "queries", queries.hits(cluster, 50_000).lines)
        replicas = Replicas([one, other], options.peer, cores)
        try:
            figures, checker = asyncio.run(rolling(replicas, cluster, cores, path))
        finally:
            replicas.load_balancer.close()
    udp, tcp = checker.udp, checker.tcp
    print(
        f"{options.peer}: dnsperf sent {figures.sent:,}, lost {figures.lost}; checked over UDP {udp.sent:,}, lost {udp.lost},"
    )
    print(f"over TCP {tcp.sent:,}, lost {tcp.lost}, {tcp.closed} connections ended; wrong {udp.wrong + tcp.wrong}")
    for text in (*udp.examples, *tcp.examples):
        print(text)
    return 1 if figures.lost or udp.lost or tcp.lost or udp.wrong or tcp.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
