"""What a replica costs, and what its watches cost the API server: `python -m bench.replica_costs`.

The parts are: memory, requests and received octets at a start, by the size of the cluster; the octets of a change of an
EndpointSlice; the memory of a node-local cache, and of CoreDNS in its place if the variable COREDNS names its binary.
With `--server`, `--token`, `--ca` and `--pid`, the CPU time of a real API server is measured instead, with and without
watches. The result is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import aiohttp

from bench.client import Client, make_query
from bench.cluster import Cluster, slice_object
from bench.processes import cpu_seconds, free_ports, kill_tree, pss_mib, spawn, until
from bench.run import Options
from bench.servers import Cores, ServerGroup

SIZES: Final = ((0, 0), (1_000, 1), (10_000, 1), (10_000, 10))
"""Services, and endpoints of each Service."""
ENDPOINTS: Final = (1, 10, 100)
CHANGES: Final = 200
WATCHES: Final = 50
"""Watches of the same resource at a real API server, each on a connection of its own."""
NAMES: Final = 5_000
"""The names that are queried at the node-local cache."""
NODE_LOCAL: Final = """\
.:{port} {{
    bind 127.0.0.1
    errors
    cache {{
        success 9984 30
        denial 9984 5
    }}
    forward . 127.0.0.1:{upstream} {{
        force_tcp
    }}
}}
"""
REQUESTS: Final = "coredns_kubernetes_rest_client_requests_total"
RECEIVED: Final = "svcdns_kubernetes_received_bytes_total"
SVCDNS: Final = (sys.executable, "-I", "-m", "svcdns")
SETTLED: Final = 2.0
"""Seconds until memory is read."""


def start(services: int, endpoints: int, cores: Cores) -> dict[str, Any]:
    """Starts a server for a cluster. Returns its requests, received octets, CPU seconds and memory in MiB."""
    cluster = Cluster(services, endpoints)
    with ServerGroup(cluster, ["svcdns"], cores) as group:
        server = group.servers["svcdns"]
        time.sleep(SETTLED)
        found = {"services": services, "endpoints": endpoints, "cpu_s": round(server.cpu(), 2)}
        found |= {"mib": round(server.pss(), 1), "requests": int(server.metric(REQUESTS))}
        return found | {"octets": int(server.metric(RECEIVED))}


def change(endpoints: int, cores: Cores) -> dict[str, Any]:
    """Returns the octets that a replica receives for one change of an EndpointSlice, and its CPU time."""
    with ServerGroup(Cluster(100, endpoints), ["svcdns"], cores) as group:
        server = group.servers["svcdns"]
        before, cpu = server.metric(RECEIVED), server.cpu()
        for number in range(CHANGES):
            server.api.request(f"change {number % 100}")
        until("the events", lambda: server.metric(RECEIVED) - before >= CHANGES * 500, 20)
        time.sleep(SETTLED)
        octets = (server.metric(RECEIVED) - before) / CHANGES
        return {"endpoints": endpoints, "octets": int(octets), "cpu_us": int((server.cpu() - cpu) / CHANGES * 1e6)}


def node_local(program: Sequence[str], cores: Cores) -> dict[str, Any]:
    """Starts a cache that forwards over TCP to a cluster DNS. Returns its CPU time, and its memory in MiB."""
    cluster = Cluster(NAMES)
    with ServerGroup(cluster, ["svcdns"], cores) as group, TemporaryDirectory() as folder:
        [port] = free_ports(1)
        corefile = Path(folder) / "Corefile"
        corefile.write_text(NODE_LOCAL.format(port=port, upstream=group.servers["svcdns"].port))
        with (Path(folder) / "log").open("wb") as log:
            process = spawn([*program, "-conf", str(corefile)], cores.server, stdout=log, stderr=log)
        try:
            with closing(Client(port, 2)) as client:
                query = make_query(cluster.fqdn(0))
                until("an answer", lambda: answered(client, query), 30, 0.02)
                time.sleep(SETTLED)
                started, cpu = pss_mib(process.pid), cpu_seconds(process.pid)
                queries = [make_query(cluster.fqdn(number)) for number in range(NAMES)]
                costs = []
                for _ in range(3):  # forwarded, then answered by *cache*, then from the answer table
                    before = cpu_seconds(process.pid)
                    for query in queries:
                        client.query(query)
                    costs.append(int((cpu_seconds(process.pid) - before) / NAMES * 1e6))
                time.sleep(SETTLED)
                return {
                    "cpu_s": round(cpu, 2),
                    "mib": round(started, 1),
                    f"mib, {NAMES} names": round(pss_mib(process.pid), 1),
                    "forwarded, cpu_us": costs[0],
                    "second query, cpu_us": costs[1],
                    "further query, cpu_us": costs[2],
                }
        finally:
            kill_tree(process)


def answered(client: Client, query: bytes) -> bool:
    """Returns True if the server answers a query."""
    try:
        return bool(client.query(query))
    except OSError:
        return False


class ApiServer:
    """A client of a real API server whose process runs on this machine."""

    PATH: Final = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"

    def __init__(self, options: argparse.Namespace) -> None:
        self.server, self.pid = options.server, options.pid
        self.headers = {"Authorization": f"Bearer {options.token}"}
        self.tls = ssl.create_default_context(cafile=options.ca)

    async def measure(self, watches: int, endpoints: int) -> dict[str, Any]:
        """Changes an EndpointSlice CHANGES times. Returns the CPU microseconds of a change and the octets of an
        event.
        """
        body = slice_object(Cluster(1, endpoints), 0)
        body["metadata"] = {"name": "bench", "labels": {"kubernetes.io/service-name": "bench"}}
        connector = aiohttp.TCPConnector(ssl=self.tls, limit=0)
        async with aiohttp.ClientSession(self.server, headers=self.headers, connector=connector) as session:
            async with session.post(self.PATH, json=body) as response:
                response.raise_for_status()
                version = (await response.json())["metadata"]["resourceVersion"]
            received = [0] * watches
            readers = [asyncio.create_task(self.watch(session, version, received, k)) for k in range(watches)]
            await asyncio.sleep(SETTLED)
            before = cpu_seconds(self.pid)
            for number in range(CHANGES):
                body["endpoints"][0]["addresses"] = [f"10.9.{number // 256}.{number % 256}"]
                async with session.put(f"{self.PATH}/bench", json=body) as response:
                    response.raise_for_status()
            await asyncio.sleep(0.5)
            cpu = cpu_seconds(self.pid) - before
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            async with session.delete(f"{self.PATH}/bench"):
                pass
        octets = sum(received) // max(1, watches) // CHANGES
        return {"watches": watches, "endpoints": endpoints, "cpu_us": int(cpu / CHANGES * 1e6), "octets": octets}

    async def watch(self, session: aiohttp.ClientSession, version: str, received: list[int], number: int) -> None:
        """Counts the octets of a watch as item `number` of `received`, until the task is cancelled."""
        parameters = {"watch": "true", "resourceVersion": version}
        async with session.get("/apis/discovery.k8s.io/v1/endpointslices", params=parameters) as response:
            async for chunk in response.content.iter_any():
                received[number] += len(chunk)


def main(arguments: list[str] | None = None) -> int:
    """Measures, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", help="URL of a real API server")
    parser.add_argument("--token", default="", help="bearer token that may write EndpointSlices")
    parser.add_argument("--ca", help="certificate authority of the API server")
    parser.add_argument("--pid", type=int, help="process of the API server")
    options = parser.parse_args(arguments)
    if options.server:
        api = ApiServer(options)
        asyncio.run(api.measure(1, 10))  # warms up the API server
        figures = [asyncio.run(api.measure(watches, size)) for size in (10, 100) for watches in (0, WATCHES)]
        print(json.dumps({"api server": figures}, indent=1))
        return 0
    cores = Options(["svcdns"]).cores
    found = {
        "start": [start(services, endpoints, cores) for services, endpoints in SIZES],
        "change": [change(endpoints, cores) for endpoints in ENDPOINTS],
        "node-local": node_local(SVCDNS, cores),
    }
    if os.environ.get("COREDNS"):
        found["node-local, coredns"] = node_local([os.environ["COREDNS"]], cores)
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
