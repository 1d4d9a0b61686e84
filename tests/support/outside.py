"""A UDP listener with real chains and a scripted upstream, with and without the fast path.

Tests compare the replies, cache entries and metrics of both.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import select
import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from svcdns.chain.build import build
from svcdns.chain.plan import plan
from svcdns.chain.routing import Listener, Route
from svcdns.cluster.changes import Complete, Kind
from svcdns.cluster.index import Index
from svcdns.corefile.parser import parse
from svcdns.eventloop.timer_wheel import TICK
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.hooks import HookCaller
from svcdns.plugin_api.reply import Reply
from svcdns.plugins import BUILT, ORDER
from svcdns.plugins.cache.store import Store
from svcdns.serving.answer_table import AnswerTable
from svcdns.serving.in_flight import InFlight
from svcdns.serving.metrics import QueryMetrics
from svcdns.serving.metrics_flush import flush
from svcdns.serving.responder import Responder
from svcdns.serving.transport.udp import SocketErrors, UdpReader
from svcdns.telemetry.counters import Counters, MetricKind, samples
from svcdns.upstream.server import Server
from tests.support import world
from tests.support.responder import bound
from tests.support.scripted_upstream import Respond, ScriptedUpstream

NAME = "www.example.org."
_KINDS = (Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NAMESPACE)
PLAIN = "prometheus\nerrors\nloop\ncache 30\nforward . {}"
"""A block with a fast path; the braces stand for its upstream's address."""


def replying(
    *answer: str,
    authority: Sequence[str] = (),
    additional: Sequence[str] = (),
    rcode: int = 0,
    flags: int = 0,
    spelled: Callable[[str], str] | None = None,
    options: Sequence[dns.edns.Option] = (),
) -> Respond:
    """Returns a function that replies with these records, given as zone-file lines. `spelled` changes the letter case
    of the question's name.
    """

    def respond(query: dns.message.Message, _transport: str) -> bytes:
        reply = dns.message.make_response(query, recursion_available=True)
        reply.set_rcode(dns.rcode.Rcode(rcode))
        reply.flags |= flags
        if reply.edns >= 0:
            reply.use_edns(0, reply.ednsflags, options=list(options))
        if spelled is not None:
            question = query.question[0]
            reply.question = [
                dns.rrset.from_text(spelled(question.name.to_text()), 0, question.rdclass, question.rdtype)
            ]
        for section, lines in ((reply.answer, answer), (reply.authority, authority), (reply.additional, additional)):
            for line in lines:
                name, ttl, rclass, rtype, *rest = line.split()
                section.append(dns.rrset.from_text(name, int(ttl), rclass, rtype, " ".join(rest)))
        return reply.to_wire(max_size=65535)

    return respond


def query(name: str = NAME, rtype: str = "A", *, ident: int = 7, flags: int = 0, **options: Any) -> bytes:
    """Returns a client's packet. `flags` are set in addition to RD."""
    message = dns.message.make_query(name, rtype, id=ident, **options)
    message.flags |= flags
    return message.to_wire()


class Outside:
    """A UDP listener with one server block. Without `fast`, no query takes the fast path."""

    def __init__(self, body: str, *upstreams: ScriptedUpstream, fast: bool = True) -> None:
        """Builds the chains of a server block. `body` has `{}` for each upstream's address."""
        self.clock, self.counters = world.Clock(), Counters()
        self.kept: dict[Any, Any] = {}
        self.on_data: dict[tuple[str, str], list[Callable[[bytes], None]]] = {}
        self.index = Index(_KINDS)
        for kind in _KINDS:
            self.index.apply(Complete(kind))
        text = ". {\n" + body.format(*[f"127.0.0.1:{upstream.port}" for upstream in upstreams]) + "\n}\n"
        plans = plan(parse(text, "Corefile", environ={}), ORDER, _load)
        self.chains = build(plans, [("127.0.0.1",)] * len(plans), _load, self._environment, HookCaller(self.counters))
        self.listener: Listener = self.chains.listeners["127.0.0.1", 53, "dns"]
        if not fast:
            self.listener.routes = {
                zone: dataclasses.replace(route, fast_path=None) for zone, route in self.listener.routes.items()
            }
        self.table, self.in_flight = AnswerTable(1 << 24, self.clock), InFlight()
        metrics = QueryMetrics(self.counters, self.listener.server, "udp", 1)
        self.responder = Responder(self.listener, self.table, metrics, "udp", self.in_flight)
        self.sock, self.client = bound(), bound()
        errors = SocketErrors(self.counters, self.listener.server, self.clock)
        self.reader = UdpReader(self.sock, self.responder, errors, wildcard=False)

    def _environment(
        self, block: Block, server: str, listen: tuple[tuple[str, int], ...], _name: str, peers: Any
    ) -> Environment:
        return world.environment(
            self.index, block=block, server=server, listen_addresses=listen, peers=peers, counters=self.counters, clock=self.clock,
            kept=self._keep, on_data=lambda plugin, key, call: self.on_data.setdefault((plugin, key), []).append(call),
        )  # fmt: skip

    def _keep(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.kept.values():
            if isinstance(one, Server):
                one.stop()
        self.sock.close()
        self.client.close()

    @property
    def route(self) -> Route:
        """Returns the route of queries for external names."""
        return self.listener.routes[b"\0"]

    @property
    def on_fast_path(self) -> int:
        """Returns the number of replies that the fast path sent."""
        return sum(hit_counter.hits for hit_counter in self.responder.fast_path_counters.values())

    def send(self, packet: bytes, client: socket.socket | None = None) -> None:
        """Makes the listener read a packet."""
        (client or self.client).sendto(packet, self.sock.getsockname())
        select.select([self.sock], [], [], 10)
        self.reader.drain()

    async def reply(self, client: socket.socket | None = None) -> bytes:
        """Waits for the next reply, and returns its octets."""
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client or self.client, 65535), 10)

    async def ask(self, packet: bytes) -> bytes:
        """Sends a packet, and returns the reply."""
        self.send(packet)
        return await self.reply()

    async def turn(self, seconds: float) -> None:
        """Moves the clock forward, and runs the timers of *forward* that are due."""
        self.clock.turn(seconds + 2 * TICK)
        for _ in range(5):
            self.kept["forward", "timer wheel"].run_due()
            await asyncio.sleep(0)

    def entries(self) -> dict[Any, tuple[str, Reply, float, int, bool]]:
        """Returns the cache entries: store, reply, time of storing, lifetime, and whether the entry is served."""
        stores = [(key[-1], one) for key, one in self.kept.items() if isinstance(one, Store)]
        return {
            key: (which, entry.reply, entry.stored, entry.lifetime, entry.is_answer)
            for which, store in stores
            for key, entry in store.entries.items()
        }

    def increments(self) -> dict[tuple[str, ...], tuple[float, ...]]:
        """Flushes the counters, and returns those that are not 0. A duration histogram is reduced to its number of
        observations.
        """
        for _ in flush(self.responder):
            pass
        out = {}
        for sample in samples(self.counters._region):
            if any(sample.cells) and sample.family.kind is not MetricKind.GAUGE:
                took = "duration" in sample.family.name
                out[sample.family.name, *sample.values] = (sum(sample.cells[:-1]),) if took else tuple(sample.cells)
        return out


def _load(name: str) -> Any:
    return importlib.import_module(BUILT[name])


def shape(wire: bytes, *, ordered: bool = True) -> list[str]:
    """Returns a reply as text without its ID, or as octets if it is malformed. Addresses are sorted unless `ordered` is
    True.
    """
    assert wire[:2] == b"\0\7"
    try:
        reply = dns.message.from_wire(wire, one_rr_per_rrset=True)
    except dns.exception.DNSException:
        return ["malformed", wire[2:].hex()]
    out = [dns.flags.to_text(reply.flags), str(reply.rcode()), reply.question[0].to_text()]
    out.append(
        f"EDNS {reply.edns} {dns.flags.edns_to_text(reply.ednsflags)} {reply.payload} {[option.to_text() for option in reply.options]}"
    )
    answer = [rrset.to_text() for rrset in reply.answer]
    aliases = sum(" CNAME " in line for line in answer)
    out += answer if ordered else [*answer[:aliases], *sorted(answer[aliases:])]
    for name, section in (("authority", reply.authority), ("additional", reply.additional)):
        out += [name, *[rrset.to_text() for rrset in section]]
    return out


class Seen(NamedTuple):
    """The replies, upstream queries and counters that a series of queries caused, on the fast path or through the
    chain.
    """

    replies: list[list[str]]
    asked: list[tuple[Any, ...]]
    entries: dict[Any, Any]
    increments: dict[tuple[str, ...], tuple[float, ...]]
    on_fast_path: int


async def both_ways(body: str, respond: Respond, *packets: bytes, ordered: bool = True) -> tuple[Seen, Seen]:
    """Sends the packets one after the other, first with the fast path and then without it. Returns the effects of both
    runs.
    """
    out = []
    async with ScriptedUpstream(respond) as upstream:
        for fast in (True, False):
            upstream.asked.clear()
            with Outside(body, upstream, fast=fast) as outside:
                replies = []
                for packet in packets:
                    replies.append(shape(await outside.ask(packet), ordered=ordered))
                    outside.clock.turn(4)
                asked = [(m.name, m.flags, m.rtype, m.edns, transport) for m, transport in upstream.asked]
                out.append(Seen(replies, asked, outside.entries(), outside.increments(), outside.on_fast_path))
    return out[0], out[1]


def assert_same(fast: Seen, slow: Seen, on_fast_path: int) -> None:
    """Asserts that both runs are equal, and that the fast path sent `on_fast_path` replies in the first run."""
    assert fast.replies == slow.replies
    assert fast.asked == slow.asked
    assert fast.entries == slow.entries
    assert fast.increments == slow.increments
    assert (fast.on_fast_path, slow.on_fast_path) == (on_fast_path, 0)
