"""Stored replies after reloads of the Corefile: those that stay are the replies of a server that has just started."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcdns.chain.plan import plan
from svcdns.cluster.changes import Begin, Change, Complete, Gone, Kind, Put
from svcdns.cluster.objects import Endpoint, EndpointSlice, Namespace, Service
from svcdns.control.configuration import prepare
from svcdns.control.plugin_data import gather, plugin_files
from svcdns.eventloop.clock import monotonic
from svcdns.feed.frames import Changed, Configure, Data, FrameReader, SourceKinds, Swap, ToControl, ToWorker, frame
from svcdns.plugins import ORDER, load
from svcdns.process.cookie_secrets import private_page
from svcdns.serving.listening_sockets import SocketDescription
from svcdns.serving.responder import Responder
from svcdns.telemetry.counters import Counters
from svcdns.worker.worker import Worker
from tests.support.world import CLIENT

KINDS = (Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NAMESPACE)
MAIN = """
{zones} {{
    bind 127.0.0.1
    {before}
    kubernetes cluster.local in-addr.arpa {{
        endpoint http://127.0.0.1:1
        ttl {ttl}
        fallthrough {fallthrough}
    }}
    {after}
}}
"""
OTHER = """
{zone} {{
    bind 127.0.0.1
    hosts /nothing {{
        192.0.2.{last} www.example.org named.example.org web.d.svc.cluster.local db.d.svc.cluster.local
        ttl {ttl}
    }}
}}
"""
BEFORE = (
    "errors",
    "log",
    "cache 30",
    "loadbalance\n    prometheus",
    "hosts HOSTS {\n  fallthrough\n }",
    "minimal",
    "nsid x",
)
AFTER = ("loop", 'template ANY ANY {\n  answer "{{ .Name }} 9 IN A 192.0.2.99"\n }', "template ANY A")
OTHER_ZONES = ("example.org", "org", "d.svc.cluster.local", "web.d.svc.cluster.local", "10.in-addr.arpa")
QUERIES = [
    (name, rtype)
    for name in (
        "web.d.svc.cluster.local.",
        "out.d.svc.cluster.local.",
        "db.d.svc.cluster.local.",
        "no.d.svc.cluster.local.",
        "no.cluster.local.",
        "1.0.96.10.in-addr.arpa.",
        "www.example.org.",
        "named.example.org.",
    )
    for rtype in ("A", "PTR")
] + [("d.svc.cluster.local.", "DS"), ("web.d.svc.cluster.local.", "SRV")]
CHANGES: list[Change] = [
    Put(Service("d", "web", ("10.96.0.1",))),
    Put(Service("d", "web", ("10.96.0.2",))),
    Gone(Kind.SERVICE, "d", "web"),
    Put(Service("d", "db", ("None",))),
    Put(EndpointSlice("d", "db-1", "db", endpoints=(Endpoint("10.0.0.1"), Endpoint("10.0.0.2")))),
    Put(Service("d", "out", (), external_name="www.example.org")),
    Put(Service("d", "out", (), external_name="named.example.org")),
    Gone(Kind.NAMESPACE, "", "d"),
    Put(Namespace("d")),
]
mains = st.builds(
    lambda zones, before, ttl, fallthrough, after: MAIN.format(
        zones=zones,
        before="\n    ".join(before),
        ttl=ttl,
        fallthrough=fallthrough,
        after="" if "cache 30" in before else "\n    ".join(after),  # a cache stays, whatever the plugins after it
    ),
    st.sampled_from((".", "cluster.local in-addr.arpa net")),
    st.lists(st.sampled_from(BEFORE), unique=True, max_size=3),
    st.sampled_from((5, 30)),
    st.sampled_from(("in-addr.arpa", "", "cluster.local")),
    st.lists(st.sampled_from(AFTER), unique=True, max_size=2),
)
others = st.dictionaries(
    st.sampled_from(OTHER_ZONES), st.tuples(st.sampled_from((5, 9)), st.sampled_from((1, 2))), max_size=2
).map(lambda blocks: "".join(OTHER.format(zone=zone, ttl=ttl, last=last) for zone, (ttl, last) in blocks.items()))


@st.composite
def histories(draw: st.DrawFn) -> list[str | Change]:
    """Returns Corefiles and changes of the cluster. Few Corefiles differ in their first server block."""
    first = st.sampled_from([draw(mains) for _ in range(2)])
    corefiles = st.builds(str.__add__, first, others)
    steps = draw(st.lists(st.one_of(corefiles, corefiles, st.sampled_from(CHANGES)), min_size=2, max_size=6))
    return [draw(corefiles), *steps]


class UnfrozenWorker(Worker):
    """A worker whose objects the garbage collector can free."""

    def _freeze(self) -> None:
        pass


class Server:
    """A worker with its objects and a hosts file, and one responder, which the test calls without sockets."""

    def __init__(self, folder: Path, objects: dict[tuple[str, ...], Change]) -> None:
        self.objects, self._path = objects, folder / "Corefile"
        self.hosts = folder / "hosts"
        self._said = FrameReader[ToControl](ToControl)
        self.worker = UnfrozenWorker(0, Counters(), monotonic, self._said.feed, private_page())
        self._generation = 0

    async def feed(self, *frames: ToWorker) -> None:
        if self.worker.receive(b"".join(map(frame, frames))):
            await self.worker.run_instructions()

    async def load(self, corefile: str) -> None:
        """Configures the worker as control does at a start or a reload: files, chains, swap."""
        first, self._generation = not self._generation, self._generation + 1
        self._path.write_text(corefile.replace("HOSTS", str(self.hosts)))
        made = prepare(str(self._path), 53)
        files = plugin_files(plan(made.corefile, ORDER, load))
        await self.feed(*[Data(*key, payload) for key, payload in gather(files, {}).items()])
        (watch,) = made.views
        await self.feed(
            Configure(self._generation, made.corefile, made.hosts, (SourceKinds(1, watch, KINDS),)),
            Swap(self._generation),
        )
        if first:
            await self.change(*map(Begin, KINDS), *self.objects.values(), *map(Complete, KINDS))
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            about = SocketDescription(0, 0, "127.0.0.1", 53, "udp", 4, wildcard=False)
            await self.worker.sockets([(about, sock.detach())], [])
            await self.worker.read(frozenset({0}))

    async def change(self, *changes: Change) -> None:
        await self.feed(*[Changed(1, change) for change in changes])

    async def close(self) -> None:
        """Closes the socket, and empties the answer table, whose entries the garbage collector does not track."""
        self.responder.table.clear()
        list(self.worker.listeners.purge())
        await self.worker.read(frozenset())
        await self.worker.sockets([], [0])

    @property
    def responder(self) -> Responder:
        (responder,) = self.worker.listeners.responders
        return responder

    def ask(self, name: str, rtype: str) -> str:
        """Returns the text of a reply, with its records sorted."""
        packet = dns.message.make_query(name, rtype, id=7).to_wire()
        wire = self.responder.lookup(packet, CLIENT, 0.0)
        if not wire:
            sent: list[bytes] = []
            self.responder.answer(packet, CLIENT, sent.append, 0.0)
            (wire,) = sent
        return "\n".join(
            sorted(line for line in dns.message.from_wire(wire).to_text().split("\n") if " SOA " not in line)
        )

    def replies(self) -> dict[Any, str]:
        return {query: self.ask(*query) for query in QUERIES}


def identity(change: Change) -> tuple[str, ...]:
    """Returns a value that is equal for changes of the same object."""
    if isinstance(change, Gone):
        return str(change.kind), change.name
    assert isinstance(change, Put)
    return type(change.object).__name__, change.object.name


async def compare(folder: Path, steps: list[str | Change]) -> None:
    """After each step, compares the replies of one server with those of a server that has just started."""
    objects: dict[tuple[str, ...], Change] = {identity(change): change for change in CHANGES if isinstance(change, Put)}
    (folder / "hosts").write_text("192.0.2.50 named.example.org\n")
    server, corefile = Server(folder, objects), ""
    for step in steps:
        if isinstance(step, str):
            corefile = step
            await server.load(corefile)
        else:
            objects.pop(identity(step), None)
            if isinstance(step, Put):
                objects[identity(step)] = step
            await server.change(step)
        fresh = Server(folder, objects)
        await fresh.load(corefile)
        expected = fresh.replies()
        for _ in range(3):  # the second query stores the reply
            found = server.replies()
            assert [(query, found[query]) for query in QUERIES] == [(query, expected[query]) for query in QUERIES]
        await fresh.close()
    await server.close()


@settings(max_examples=15, deadline=None)
@given(steps=histories())
@pytest.mark.slow
def test_replies_after_reloads_are_those_of_a_new_server(tmp_path_factory: Any, steps: list[str | Change]) -> None:
    asyncio.run(compare(tmp_path_factory.mktemp("reload"), steps))
