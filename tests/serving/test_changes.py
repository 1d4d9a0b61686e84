"""Stored replies are equal to fresh replies, after each of thousands of changes to the cluster.

A fresh reply depends only on the current objects.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from random import Random
from typing import Any

import dns.message
import msgspec
import pytest

from svcdns.cluster.changes import KINDS, Begin, Change, Complete, Kind, Put, Serials
from svcdns.cluster.objects import ClusterObject
from svcdns.control.configuration import prepare
from svcdns.feed.frames import Changed, Configure, Data, FrameReader, SourceKinds, Swap, ToControl, ToWorker, frame
from svcdns.process.cookie_secrets import private_page
from svcdns.serving.listening_sockets import SocketDescription
from svcdns.telemetry.counters import Counters
from svcdns.wire.codes import TC, Type
from svcdns.wire.message import parse_message
from svcdns.wire.record import Record
from svcdns.worker.worker import Worker
from tests.support import clusters
from tests.support.world import Clock

QUICK = 200
CHECKPOINTS = 2
QUERIES = 3
"""New queries between two changes, and as many repeated ones."""
PLAIN = """
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        endpoint http://127.0.0.1:1
        pods verified
    }
"""
STOCK = """
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        endpoint http://127.0.0.1:1
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    prometheus
    hosts {
        192.0.2.80 www.example.org
        10.96.0.2 shadow.example.org
        fallthrough
    }
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
    loadbalance
"""
EVERYTHING = """
    prometheus
    cache
    minimal
    rewrite name suffix .old. .svc.cluster.local. answer auto
    autopath @kubernetes
    kubernetes cluster.local in-addr.arpa ip6.arpa set.local {
        endpoint http://127.0.0.1:1
        pods verified
        endpoint_pod_names
        ignore empty_service
        zonal
        multicluster set.local
        fallthrough e.svc.cluster.local
        namespaces d svc
    }
"""


class World:
    """A worker in the test's process, and its client."""

    def __init__(self, folder: Path, body: str) -> None:
        """Creates a worker with one server block. `body` has the block's directives."""
        folder.mkdir()
        self.folder, self.body = folder, body
        self.clock = Clock()
        self.worker = Worker(0, Counters(), self.clock, FrameReader[ToControl](ToControl).feed, private_page())
        self.client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.client.settimeout(0)

    async def start(self, state: Iterable[ClusterObject] = ()) -> None:
        path = self.folder / "Corefile"
        path.write_text(f". {{\n    bind 127.0.0.1\n{self.body}\n}}\n")
        made = prepare(str(path), 53)
        (watch,) = made.views
        await self._feed(*[Data(plugin, key, payload) for (plugin, key), payload in made.data.items()])
        await self._feed(Configure(1, made.corefile, made.hosts, (SourceKinds(1, watch, tuple(Kind)),)), Swap(1))
        listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listening.bind(("127.0.0.1", 0))
        self.client.connect(listening.getsockname())
        await self.worker.sockets(
            [(SocketDescription(0, 0, "127.0.0.1", 53, "udp", 4, wildcard=False), listening.detach())], []
        )
        await self.worker.read(frozenset({0}))
        by_kind: dict[Kind, list[Change]] = {kind: [] for kind in Kind}
        for item in state:
            by_kind[KINDS[type(item)]].append(Put(item))
        for kind, puts in by_kind.items():
            await self.change(Begin(kind), *puts, Complete(kind))

    async def stop(self) -> None:
        await self.worker.drain()
        await self.worker.sockets([], [0])
        self.client.close()

    async def change(self, *changes: Change) -> None:
        await self._feed(*[Changed(1, change) for change in changes])

    async def _feed(self, *frames: ToWorker) -> None:
        if self.worker.receive(b"".join(map(frame, frames))):
            await self.worker.run_instructions()

    def invalidate(self) -> None:
        for table in self.worker.listeners.tables:
            table.clear()

    async def ask(self, packet: bytes) -> bytes:
        self.client.send(packet)
        self.worker.listeners.drain()
        for _ in range(100):
            try:
                return self.client.recv(65535)
            except BlockingIOError:
                await asyncio.sleep(0)
                self.worker.listeners.drain()
        raise AssertionError(f"no answer to {dns.message.from_wire(packet)}")


def check(found: bytes, expected: bytes, where: object) -> None:
    """Asserts that two replies have the same content."""
    if found != expected:
        assert compared_parts(found) == compared_parts(expected), where


def check_part(found: bytes, whole: bytes, where: object) -> None:
    """Asserts that each record of a truncated reply is in `whole`.

    `whole` is the reply without the limit of the client; the limit of *bufsize* applies to both.
    """
    part, rest = parse_message(found), parse_message(whole)
    if not rest.flags & TC:
        assert {*part.answer, *part.additional} <= {*rest.answer, *rest.additional}, where


def roomy(packet: bytes) -> bytes:
    """Returns the query with an EDNS size that is large enough for any answer."""
    message = dns.message.from_wire(packet)
    message.use_edns(0, message.ednsflags, 65_000)
    return message.to_wire()


def compared_parts(wire: bytes) -> list[object]:
    """Returns the parts of a reply that must be equal: without the order of records, the SOA serial, and the records of
    a truncated reply.
    """
    message = parse_message(wire)
    sections: list[list[Record]] = [
        list(message.answer),
        [_unserial(record) for record in message.authority],
        list(message.additional),
    ]
    head = [message.flags, message.name, message.rtype, message.edns]
    if message.flags & TC:
        return head
    return [*head, *(sorted((r.owner, r.rtype, r.ttl, r.rdata) for r in section) for section in sections)]


def _unserial(record: Record) -> Record:
    if record.rtype != Type.SOA:
        return record
    return msgspec.structs.replace(record, rdata=record.rdata[:-20] + record.rdata[-16:])


@pytest.fixture(
    params=[(PLAIN, True), (STOCK, True), (STOCK, False), (EVERYTHING, True)],
    ids=["plain", "stock", "stock, hidden", "everything"],
)
async def worlds(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[World, World]]:
    """Starts two workers that get the same changes. `request` chooses whether few or many entries become invalid at a
    time.
    """
    body, dropped = request.param
    if not dropped:
        monkeypatch.setattr("svcdns.serving.answer_table.MAX_DROPPED_AT_ONCE", 0)
    made = [World(tmp_path / name, body) for name in ("stored", "fresh")]
    for world in made:
        await world.start()
    yield made[0], made[1]
    for world in made:
        await world.stop()


@pytest.mark.parametrize(
    "changes", [QUICK, pytest.param(10_000, marks=[pytest.mark.conformance, pytest.mark.timeout(600)])]
)
async def test_no_stored_reply_differs_from_a_fresh_one(
    worlds: tuple[World, World], tmp_path: Path, changes: int
) -> None:
    """Of two workers with the same random changes, one stores replies, and the other does not."""
    stored, fresh = worlds
    rng = Random(len(stored.body))
    names = clusters.names(("cluster.local.", "set.local.") if "set.local" in stored.body else ("cluster.local.",))
    spelled = "cache" not in stored.body  # there, the spelling of the first query counts
    state: clusters.State = {}
    asked: list[bytes] = []
    for number in range(changes):
        change: Change = Serials(number, number, number) if number % 10 == 9 else clusters.change(rng, state)
        clusters.apply(state, change)
        for world in worlds:
            await world.change(change)
        asked = (asked + [query(rng, names, spelled=spelled) for _ in range(QUERIES)])[-40:]
        for packet in rng.sample(asked, min(len(asked), 2 * QUERIES)):
            fresh.invalidate()
            expected = await fresh.ask(packet)
            for _ in range(2):
                found = await stored.ask(packet)
                check(found, expected, (number, change))
                if found[2] & TC >> 8:
                    check_part(found, await fresh.ask(roomy(packet)), (number, change))
        if (number + 1) % (changes // CHECKPOINTS) == 0:
            chosen = names if changes > QUICK else rng.sample(names, 150)
            await check_names(stored, state, chosen, tmp_path / str(number))
    assert any(len(table) for table in stored.worker.listeners.tables)


async def check_names(world: World, state: clusters.State, names: list[str], folder: Path) -> None:
    """Asserts that the worker answers all names in the same way as a newly started worker, except for SOA serials."""
    started = World(folder, world.body)
    await started.start(state.values())
    try:
        for name in names:
            for rtype in clusters.TYPES:
                if rtype != "SOA":
                    packet = dns.message.make_query(name, rtype, id=1).to_wire()
                    check(await world.ask(packet), await started.ask(packet), (name, rtype))
    finally:
        await started.stop()


def query(rng: Random, names: list[str], *, spelled: bool) -> bytes:
    """Returns a query for a random name and type. With `spelled`, some names are in mixed case."""
    name = rng.choice(names)
    if spelled and rng.random() < 0.1:
        name = "".join(char.upper() if rng.random() < 0.5 else char for char in name)
    options: dict[str, Any] = rng.choice(
        [{}, {}, {"use_edns": 0, "payload": 1232}, {"use_edns": 0, "payload": 512, "want_dnssec": True}]
    )
    return dns.message.make_query(name, rng.choice(clusters.TYPES), id=1, **options).to_wire()
