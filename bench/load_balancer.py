"""A load balancer that works like kube-proxy: `python -m bench.load_balancer READY:PORT...`.

An argument is a replica: the HTTP port of its /ready page, and its DNS port. New UDP clients and TCP connections are
given to the ready replicas in turn. A UDP client keeps its replica while the replica is ready. Each replica is probed
every READINESS seconds. A changed result is used PROPAGATION seconds later, as in a cluster.

The process prints its port, and serves until standard input ends. For each line on standard input, it prints the number
of ready replicas.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, cast

from bench.processes import end_with_parent, free_ports

READINESS = 0.2
PROPAGATION = 0.5
CHUNK = 65_536


@dataclass
class Replica:
    """A server behind the load balancer. `port` is its DNS port, and `http_port` the port of its /ready page.

    `probed` is the result of the last probe, and `changed` is the time when this result last changed. `ready` follows
    `probed` after PROPAGATION seconds.
    """

    port: int
    http_port: int
    ready: bool = False
    probed: bool = False
    changed: float = 0.0

    def probe(self) -> bool:
        """Returns True if the /ready page has the status 200."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/ready", timeout=1) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def update(self, probed: bool, now: float) -> None:
        """Records the result of a probe. If the result has changed, `ready` changes PROPAGATION seconds later."""
        if probed != self.probed:
            self.probed, self.changed = probed, now
        if self.ready != self.probed and now - self.changed >= PROPAGATION:
            self.ready = self.probed


class LoadBalancer:
    """Chooses the ready replicas in turn, one for each new client."""

    def __init__(self, replicas: list[Replica]) -> None:
        self.replicas = replicas
        self._next = 0

    @property
    def ready(self) -> list[Replica]:
        """Returns the replicas that get new clients."""
        return [replica for replica in self.replicas if replica.ready]

    def choose(self) -> Replica | None:
        """Returns the next ready replica, or None if no replica is ready."""
        ready = self.ready
        self._next += 1
        return ready[self._next % len(ready)] if ready else None

    async def probe_all(self) -> None:
        """Probes all replicas every READINESS seconds, until the task is cancelled."""
        while True:
            probed = await asyncio.gather(*(asyncio.to_thread(replica.probe) for replica in self.replicas))
            for replica, one in zip(self.replicas, probed, strict=True):
                replica.update(one, time.monotonic())
            await asyncio.sleep(READINESS)

    async def proxy_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forwards the data of one TCP connection between its client and a replica, in both directions."""
        replica = self.choose()
        with contextlib.suppress(OSError, asyncio.CancelledError):  # CancelledError comes at the end of the process
            if replica is not None:
                there, back = await asyncio.open_connection("127.0.0.1", replica.port)
                await asyncio.gather(_copy(reader, back), _copy(there, writer))
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
        writer.write_eof()


class UdpFrontend(asyncio.DatagramProtocol):
    """Forwards the queries of UDP clients to replicas, and their replies to the clients, with one socket for each
    client.
    """

    def __init__(self, load_balancer: LoadBalancer) -> None:
        self._balancer = load_balancer
        self._flows: dict[Any, tuple[Replica, socket.socket]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Stores the transport."""
        self._transport = cast(
            "asyncio.DatagramTransport", transport
        )  # the class of CPython 3.11 does not declare this type

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Sends a query to its client's replica.

        If this replica is not ready, the client gets the next ready replica.
        """
        flow = self._flows.get(addr)
        if flow is None or not flow[0].ready:
            replica = self._balancer.choose()
            if replica is None:
                return
            flow = self._flows[addr] = replica, self._open(replica, addr)
        with contextlib.suppress(OSError):
            flow[1].send(data)

    def _open(self, replica: Replica, client: Any) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        made.connect(("127.0.0.1", replica.port))
        asyncio.get_running_loop().add_reader(made, self._return_reply, made, client)
        return made

    def _return_reply(self, made: socket.socket, client: Any) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._transport.sendto(made.recv(CHUNK), client)


async def serve(replicas: list[Replica]) -> None:
    """Serves UDP and TCP until standard input ends."""
    loop = asyncio.get_running_loop()
    load_balancer = LoadBalancer(replicas)
    [port] = free_ports(1)
    await asyncio.start_server(load_balancer.proxy_tcp, "127.0.0.1", port, backlog=1024)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("127.0.0.1", port))
    await loop.create_datagram_endpoint(lambda: UdpFrontend(load_balancer), sock=sock)
    probing = asyncio.create_task(load_balancer.probe_all())
    print(port, flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(json.dumps(len(load_balancer.ready)), flush=True)
    probing.cancel()


def main() -> None:
    """Runs the load balancer."""
    end_with_parent()
    pairs = [tuple(map(int, text.split(":"))) for text in sys.argv[1:]]
    asyncio.run(serve([Replica(port, http_port) for http_port, port in pairs]))


if __name__ == "__main__":
    main()
