"""A rolling restart of two replicas behind a balancer: `python -m bench.replicas [--peer coredns]`.

One replica after the other is stopped as the kubelet does it (SIGTERM; five seconds of lame duck), started again, and ready before the
next one goes, while dnsperf asks 5,000 questions a second over UDP and a checker asks over UDP and
over kept TCP connections. It ends with 1 where anything was lost or wrong.
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

from bench import dnsperf, peers, questions
from bench.asking import write_questions
from bench.checker import Checker
from bench.checker import questions as checked
from bench.cluster import Cluster
from bench.dnsperf import BrokenError, Figures, Load
from bench.processes import Helper
from bench.servers import Cores, Server, Stage
from bench.truth import Truth

RATE = 5_000
SECONDS = 45
LEAD = 3.0


class Replicas:
    """Two servers with an API server each, and the balancer before them."""

    def __init__(self, stages: list[Stage], name: str, cores: Cores) -> None:
        self.name, self.stages, self._cores = name, stages, cores
        self.servers: list[Server] = [stage.servers[name] for stage in stages]
        self.balancer = Helper(
            "bench.balancer", *(f"{server.site.pages['ready']}:{server.port}" for server in self.servers), cpus=cores.asker
        )

    async def until_ready(self, count: int) -> None:
        """Waits until the balancer sees that many replicas ready."""
        async with asyncio.timeout(60):
            while await asyncio.to_thread(self.balancer.ask, "replicas") != count:
                await asyncio.sleep(0.05)

    async def restart(self, number: int) -> None:
        """Stops a replica, waits for its end, and starts it again."""
        server = self.servers[number]
        server.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(server.process.wait, 30)
        if code != 0:
            raise BrokenError(f"{self.name} ended with {code}: {server.log()}")
        server.start(self._cores)
        await self.until_ready(len(self.servers))


async def rolling(replicas: Replicas, cluster: Cluster, cores: Cores, path: Path) -> tuple[Figures, Checker]:
    """Asks while every replica is restarted in turn."""
    truth = Truth(cluster)
    port = replicas.balancer.port
    checker = Checker(port, checked(cluster, truth, cluster.headless(), 20_000), udp_rate=300, tcp_rate=300, connections=100)
    await replicas.until_ready(len(replicas.servers))
    load = asyncio.create_task(asyncio.to_thread(dnsperf.run, Load(SECONDS, RATE, 64, 5000), port, path, cores.asker))
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
    """Restarts; prints what was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default="svcdns", choices=peers.WATCHERS)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=10)
    options = parser.parse_args()
    if not shutil.which("dnsperf") or peers.missing(options.peer):
        print(f"bench: {peers.missing(options.peer) or 'dnsperf is needed and not in PATH'}", file=sys.stderr)
        return 2
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[-1:])
    cores = Cores(cpus[:1], cpus[-1:])
    cluster = Cluster(options.services, options.endpoints)
    with Stage(cluster, [options.peer], cores) as one, Stage(cluster, [options.peer], cores) as other, TemporaryDirectory() as folder:
        path = write_questions(Path(folder) / "questions", questions.hits(cluster, 50_000).lines)
        replicas = Replicas([one, other], options.peer, cores)
        try:
            figures, checker = asyncio.run(rolling(replicas, cluster, cores, path))
        finally:
            replicas.balancer.close()
    udp, tcp = checker.udp, checker.tcp
    print(f"{options.peer}: dnsperf asked {figures.sent:,}, lost {figures.lost}; checked over UDP {udp.asked:,}, lost {udp.lost},")
    print(f"over TCP {tcp.asked:,}, lost {tcp.lost}, {tcp.closed} connections ended; wrong {udp.wrong + tcp.wrong}")
    for text in (*udp.examples, *tcp.examples):
        print(text)
    return 1 if figures.lost or udp.lost or tcp.lost or udp.wrong or tcp.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
