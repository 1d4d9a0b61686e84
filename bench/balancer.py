"""A balancer as kube-proxy is one, in a process of its own: `python -m bench.balancer READY:PORT...`.

Each datagram of a new client and each new TCP connection goes to the next ready replica in turn. A client of UDP keeps its replica, as a
connection-tracking entry does, until that replica is not ready any more; replies of one that has left still come through. Readiness is
asked for every READINESS seconds, and shows PROPAGATION seconds later, as in a cluster. It prints its port and serves until its standard
input ends; `replicas` on it gives how many are ready.
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
    """A server behind the balancer: its DNS port and that of its /ready. `changed` is when readiness last showed otherwise."""

    port: int
    page: int
    ready: bool = False
    seen: bool = False
    changed: float = 0.0

    def probe(self) -> bool:
        """Whether /ready says so."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.page}/ready", timeout=1) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def note(self, seen: bool, now: float) -> None:
        """Takes a probe's outcome; what it changes shows later."""
        if seen != self.seen:
            self.seen, self.changed = seen, now
        if self.ready != self.seen and now - self.changed >= PROPAGATION:
            self.ready = self.seen


class Balancer:
    """Round robin over the ready replicas."""

    def __init__(self, replicas: list[Replica]) -> None:
        self.replicas = replicas
        self._turn = 0

    @property
    def ready(self) -> list[Replica]:
        """Those that get what is new."""
        return [replica for replica in self.replicas if replica.ready]

    def choose(self) -> Replica | None:
        """The next one in turn; None where none is ready."""
        ready = self.ready
        self._turn += 1
        return ready[self._turn % len(ready)] if ready else None

    async def watch(self) -> None:
        """Follows the replicas' readiness."""
        while True:
            seen = await asyncio.gather(*(asyncio.to_thread(replica.probe) for replica in self.replicas))
            for replica, one in zip(self.replicas, seen, strict=True):
                replica.note(one, time.monotonic())
            await asyncio.sleep(READINESS)

    async def pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One TCP connection."""
        replica = self.choose()
        with contextlib.suppress(OSError, asyncio.CancelledError):  # the latter at the end
            if replica is not None:
                there, back = await asyncio.open_connection("127.0.0.1", replica.port)
                await asyncio.gather(_copy(reader, back), _copy(there, writer))
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
        writer.write_eof()


class Front(asyncio.DatagramProtocol):
    """The UDP side."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self._ways: dict[Any, tuple[Replica, socket.socket]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self._transport = cast("asyncio.DatagramTransport", transport)  # Python 3.11 does not say so of its own class

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """A question: to its client's replica, or to the next one."""
        way = self._ways.get(addr)
        if way is None or not way[0].ready:
            replica = self._balancer.choose()
            if replica is None:
                return
            way = self._ways[addr] = replica, self._open(replica, addr)
        with contextlib.suppress(OSError):
            way[1].send(data)

    def _open(self, replica: Replica, client: Any) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        made.connect(("127.0.0.1", replica.port))
        asyncio.get_running_loop().add_reader(made, self._back, made, client)
        return made

    def _back(self, made: socket.socket, client: Any) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._transport.sendto(made.recv(CHUNK), client)


async def serve(replicas: list[Replica]) -> None:
    """Serves until the standard input ends."""
    loop = asyncio.get_running_loop()
    balancer = Balancer(replicas)
    [port] = free_ports(1)
    await asyncio.start_server(balancer.pipe, "127.0.0.1", port, backlog=1024)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("127.0.0.1", port))
    await loop.create_datagram_endpoint(lambda: Front(balancer), sock=sock)
    watching = asyncio.create_task(balancer.watch())
    print(port, flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(json.dumps(len(balancer.ready)), flush=True)
    watching.cancel()


def main() -> None:
    """Balances."""
    end_with_parent()
    pairs = [tuple(map(int, text.split(":"))) for text in sys.argv[1:]]
    asyncio.run(serve([Replica(port, page) for page, port in pairs]))


if __name__ == "__main__":
    main()
