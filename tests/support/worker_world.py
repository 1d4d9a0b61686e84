"""A worker in the test's process. The test sends frames as control does, and queries the worker's sockets."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode

from svcdns.cluster.changes import Begin, Change, Complete, Kind, Put
from svcdns.cluster.objects import Endpoint, EndpointSlice, Namespace, Service
from svcdns.control.configuration import prepare
from svcdns.eventloop.clock import monotonic
from svcdns.feed.frames import (
    Changed,
    Configure,
    Epoch,
    FrameReader,
    SourceKinds,
    Swap,
    ToControl,
    ToWorker,
    frame,
)
from svcdns.process.cookie_secrets import private_page
from svcdns.process.shared_memory import State, state
from svcdns.serving.listening_sockets import SocketDescription
from svcdns.telemetry.counters import Counters
from svcdns.worker.worker import Worker
from tests.support.sockets import udp_and_tcp

KINDS = (Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NAMESPACE)
COREFILE = """
. {{
    bind 127.0.0.1
    prometheus
    kubernetes cluster.local {{
        endpoint http://127.0.0.1:1
        ttl {ttl}
    }}
    cache 30 {{
        success {capacity}
    }}
}}
"""
WEB = Service("d", "web", ("10.96.0.1",))
DB = Service("d", "db", ("None",))


def slice_of(*addresses: str) -> EndpointSlice:
    """Returns the EndpointSlice of the headless Service with these addresses."""
    return EndpointSlice("d", "db-1", "db", endpoints=tuple(Endpoint(address) for address in addresses))


class World:
    """A worker, its sockets and its connection to control."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = FrameReader[ToControl](ToControl)
        self.counters = Counters()
        self.worker = Worker(0, self.counters, monotonic, self.said.feed, private_page())
        self.port = 0
        self.corefile = COREFILE
        """The Corefile, with fields for `ttl` and `capacity`."""

    async def listen(self) -> None:
        udp, tcp = udp_and_tcp()
        self.port = udp.getsockname()[1]
        described = [
            SocketDescription(n, 0, "127.0.0.1", 53, proto, 4, wildcard=False) for n, proto in enumerate(("udp", "tcp"))
        ]
        await self.worker.sockets(list(zip(described, (udp.detach(), tcp.detach()), strict=True)), [])
        await self.worker.read(frozenset({0}))

    async def feed(self, *frames: ToWorker) -> list[ToControl]:
        """Sends frames to the worker, and returns the frames that the worker sends to control."""
        if self.worker.receive(b"".join(map(frame, frames))):
            await self.worker.run_instructions()
        return list(self.said.frames())

    async def change(self, *changes: Change) -> None:
        await self.feed(*[Changed(1, change) for change in changes])

    async def list_all(self, *objects: Any) -> None:
        """Sends a complete list of every kind. The lists contain `objects`."""
        for kind in KINDS:
            mine = [Put(item) for item in (Namespace("d"), *objects) if type(item).__name__ == kind]
            await self.change(Begin(kind), *mine, Complete(kind))

    async def configure(self, generation: int, ttl: int = 5, capacity: int = 1024) -> list[ToControl]:
        """Builds chains from a Corefile."""
        path = self.folder / "Corefile"
        path.write_text(self.corefile.format(ttl=ttl, capacity=capacity))
        made = prepare(str(path), 53)
        (watch,) = made.views
        return await self.feed(Configure(generation, made.corefile, made.hosts, (SourceKinds(1, watch, KINDS),)))

    async def ask(self, name: str, rtype: str = "A") -> list[str]:
        """Queries the worker. Returns TTL and data of each record, or the response code if there is no record."""
        reply = await self.reply(name, rtype, edns=False)
        found = sorted(f"{rrset.ttl} {rdata}" for rrset in reply.answer for rdata in rrset)
        return found or [dns.rcode.to_text(reply.rcode())]

    async def reply(self, name: str, rtype: str = "A", *, edns: bool = True) -> dns.message.Message:
        """Sends a query with a fixed message ID, and returns the reply."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(("127.0.0.1", self.port))
            sock.send(dns.message.make_query(name, rtype, use_edns=edns, id=7).to_wire())
            return dns.message.from_wire(await asyncio.wait_for(loop.sock_recv(sock, 65535), 10))

    @property
    def state(self) -> State:
        """Returns the state that the worker reports to the supervisor."""
        return state(self.counters._region)


async def serving(world: World, *objects: Any) -> None:
    """Makes the worker serve these objects."""
    await world.feed(Epoch(1))
    await world.configure(1)
    await world.feed(Swap(1))
    await world.listen()
    await world.list_all(*objects)
