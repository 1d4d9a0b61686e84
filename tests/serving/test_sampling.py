"""The counting of queries for traces, with the loop that reads UDP packets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Self

import pytest

from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.tracing import Sampler
from svcdns.serving.sampling import SampledPacket, Sampling
from svcdns.serving.transport.udp import SocketErrors, UdpReader
from svcdns.wire import names
from svcdns.wire.codes import RD, Class, Type
from svcdns.wire.message import encode_query
from tests.support.responder import REPLY, ResponderSetup, bound
from tests.support.world import Clock


class Served:
    """A UDP reader for a listener with samplers. `traced` has the names of the traced queries."""

    def __init__(self, **every: int) -> None:
        """`every` has the sampler of each zone; `root` is the root zone."""
        self.place, self.traced = ResponderSetup("udp"), list[int]()
        listener = self.place.listener
        root = listener.routes.pop(b"\0")
        self.samplers: dict[str, Sampler] = {}
        for zone, number in every.items():
            wire = b"\0" if zone == "root" else bytes((len(zone),)) + zone.encode() + b"\0"
            sampler = self.samplers[zone] = Sampler(number)
            listener.routes[wire] = replace(root, zone=wire, entry=self._chain(sampler), sampler=sampler)
        listener.all_routes = list(listener.routes.values())
        listener.sampled = True
        self.place.responder.serve(listener)
        self.sock, self.client = bound(), bound()
        errors = SocketErrors(self.place.counters, "dns://:53", Clock())
        self.reader = UdpReader(self.sock, self.place.responder, errors, wildcard=False)

    def _chain(self, sampler: Sampler) -> Any:
        def handle(query: Query) -> Reply:
            if sampler.chosen:
                sampler.chosen = False
                self.traced.append(query.message_id)
            self.place.asked += 1
            return REPLY

        return handle

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
        self.client.close()

    async def ask(self, first: int, last: int, name: str = "a.b.") -> int:
        """Sends queries with the message IDs from `first` to `last` in one batch. Returns the number of replies."""
        for number in range(first, last + 1):
            self.client.sendto(
                encode_query(number, RD, names.from_text(name), Type.A, Class.IN, None), self.sock.getsockname()
            )
        while self.reader.drain() or self.reader.waiting:
            await asyncio.sleep(0)
        self.reader.batch.flush()
        count = 0
        while True:
            try:
                self.client.recv(512)
            except BlockingIOError:
                return count
            count += 1


async def test_one_of_ten_packets_is_traced() -> None:
    """Batches of any size are counted. Only the traced packets go through the chain, after the reply is stored."""
    with Served(root=10) as served:
        assert await served.ask(1, 1) + await served.ask(2, 2) + await served.ask(3, 9) == 9
        assert await served.ask(10, 35) == 26
        assert await served.ask(36, 50) == 15
        assert served.traced == [10, 20, 30, 40, 50]
        assert served.place.asked == 2 + 5


async def test_every_packet_is_traced() -> None:
    """With `every 1`, all packets go through the chain, in their order."""
    with Served(root=1) as served:
        assert await served.ask(1, 20) == 20
        assert served.traced == list(range(1, 21))


async def test_zones_are_counted_apart() -> None:
    """If the sampler depends on the name, the packets are counted one by one."""
    with Served(b=3, c=2) as served:
        assert await served.ask(1, 7, "a.b.") == 7
        assert await served.ask(101, 105, "a.c.") == 5
        assert served.traced == [3, 6, 102, 104]
        assert await served.ask(8, 9, "a.b.") == 2
        assert served.traced[-1] == 9


@pytest.mark.parametrize("packet", [b"", b"\0" * 11, b"\0" * 12 + b"\x3fa", b"\0" * 12 + b"\1d\0\0\1\0\1"])
def test_packets_of_no_block_are_not_counted(packet: bytes) -> None:
    """A malformed packet, or a name of another zone, changes no count."""
    with Served(b=1) as served:
        sampling = Sampling(served.place.listener)
        assert not sampling.choose(packet)
        assert served.samplers["b"].left == 1
        assert type(sampling.marked(packet)) is bytes


def test_a_mark_belongs_to_one_packet() -> None:
    """A packet that waits has the mark; the sampler has it only while the packet is answered."""
    with Served(root=2) as served:
        sampling = Sampling(served.place.listener)
        assert not sampling.choose(b"one")
        assert type(sampling.marked(b"one")) is bytes
        assert sampling.choose(b"two")
        assert served.samplers["root"].chosen
        marked = sampling.marked(b"two")
        assert isinstance(marked, SampledPacket)
        assert marked.sampler is served.samplers["root"]
        assert not served.samplers["root"].chosen
        assert sampling.marked(b"two") == b"two"
