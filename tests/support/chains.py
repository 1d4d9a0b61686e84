"""The plugin chains of a Corefile with their answer tables, without sockets. The test changes the cluster index."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any

from svcdns import plugins
from svcdns.chain.build import Chains as Built
from svcdns.chain.build import build
from svcdns.chain.plan import plan
from svcdns.cluster.changes import Change, Complete, Kind, Put
from svcdns.cluster.index import Index
from svcdns.cluster.objects import ClusterObject
from svcdns.corefile.parser import parse
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.hooks import HookCaller
from svcdns.plugin_api.query import Answer, Client, Query
from svcdns.plugin_api.reply import Reply
from svcdns.serving.answer_table import AnswerTable
from svcdns.serving.in_flight import InFlight
from svcdns.serving.metrics import QueryMetrics
from svcdns.serving.metrics_flush import flush
from svcdns.serving.responder import Responder
from svcdns.telemetry.counters import Counters
from svcdns.wire import names
from svcdns.wire.codes import RD, Class, Type
from svcdns.wire.message import encode_query
from svcdns.wire.record import Edns
from tests.support import world

LOCAL = "10.244.0.2"
"""The address of the machine."""


class Chains:
    """A worker's chains and answer tables. The function `outside` of the test replaces the plugin *forward*."""

    def __init__(
        self,
        corefile: str,
        objects: Iterable[ClusterObject] = (),
        outside: Callable[[Query], Answer] | None = None,
        *,
        synced: bool = True,
        cold_path: bool = True,
    ) -> None:
        """Builds the chains of `corefile`. Its listeners must have the port 53."""
        self._cold_path, self.chained = cold_path, 0
        self.counters, self.clock = Counters(), world.Clock()
        self._outside = outside or (lambda query: Reply(rcode=3, flags=query.reply_flags))
        self.index = Index(tuple(Kind))
        for one in objects:
            self.index.apply(Put(one))
        if synced:
            for kind in Kind:
                self.index.apply(Complete(kind))
        self._kept: dict[Any, Any] = {}
        self.chains: Built | None = None
        self.load(corefile)

    def sync(self) -> None:
        """Completes the first list of every kind."""
        self.apply(*map(Complete, Kind))

    def flush(self) -> None:
        """Adds the uses of the answer tables to the counters."""
        for responder in self._responders.values():
            for _ in flush(responder):
                pass

    def load(self, corefile: str) -> None:
        """Replaces the chains. As in a reload, objects that plugins keep stay."""
        plans = plan(parse(corefile, "Corefile", environ={}), plugins.ORDER, self._module)
        hosts = [("",)] * len(plans)
        before = self.chains
        self.chains = build(plans, hosts, self._module, self._environment, HookCaller(self.counters))
        self.listener = self.chains.listeners["", 53, "dns"]
        if not self._cold_path:
            routes = self.listener.routes
            routes |= {zone: replace(route, cold_path=None) for zone, route in routes.items()}
        self._responders: dict[str, Responder] = {}
        self.chains.start()
        if before is not None:
            before.stop()

    def apply(self, *changes: Change | ClusterObject) -> None:
        """Applies changes of the cluster as a worker does. An object is applied as its `Put`."""
        for change in changes:
            affected = self.index.apply(change if isinstance(change, Change) else Put(change))
            for responder in self._responders.values():
                responder.table.invalidate(affected)
            if self.listener.classes is not None:
                self.listener.classes.invalidate(affected)
            for handler in self.chains.handlers if self.chains is not None else ():
                handler.invalidate(affected)

    def ask(self, name: str, rtype: str = "A", client: str = "10.244.0.1", protocol: str = "udp") -> bytes:
        """Sends a query through the answer table, like a packet from the network. Returns the encoded reply with
        message ID 0.
        """
        packet = encode_query(0, RD, names.from_text(name), Type[rtype], Class.IN, Edns(1232))
        return self.send(packet, client, protocol)

    def send(self, packet: bytes, client: str = "10.244.0.1", protocol: str = "udp") -> bytes:
        """Sends a packet. Returns the encoded reply, or empty octets if there is none.

        `chained` counts the packets that the plugin chain gets.
        """
        address = Client(client, 40000, LOCAL, 53, protocol, 2 if ":" in client else 1)
        responder = self.responder(protocol)
        wire = responder.lookup(packet, address, 0.0)
        if wire:
            return wire
        self.chained += 1
        sent: list[bytes] = []
        responder.answer(packet, address, sent.append, 0.0)
        assert len(sent) == 1, "the reply comes later"
        return sent[0]

    def hits(self, protocol: str = "udp") -> int:
        """Returns the number of replies from the answer table so far."""
        return sum(self.responder(protocol).durations.buckets)

    def chain_reply(self, name: str, rtype: str, client: str = "10.244.0.1", protocol: str = "tcp") -> Reply:
        """Returns the reply of the chain, without the answer table. Zone transfers need this."""
        address = Client(client, 40000, LOCAL, 53, protocol)
        query = world.query(name, rtype, client=address, ask=self.listener.ask)
        return world.now(self.listener.answer(query, self.listener.route(query)))

    def responder(self, protocol: str) -> Responder:
        """Returns the responder for a protocol."""
        if protocol not in self._responders:
            metrics = QueryMetrics(self.counters, self.listener.server, protocol, 1)
            self._responders[protocol] = Responder(
                self.listener, AnswerTable(1 << 24, self.clock), metrics, protocol, InFlight()
            )
        return self._responders[protocol]

    def _module(self, name: str) -> Any:
        if name != "forward":
            return plugins.load(name)
        outside = self._outside

        class Outside(Plugin):
            """Answers the queries that reach the end of the chain."""

            name = "forward"
            states_reuse = True

            def handle(self, query: Query, following: Following) -> Answer:
                return outside(query)

        return SimpleNamespace(PLUGIN=Outside, parse=lambda _block: None)

    def _environment(self, block: Block, server: str, listen: Any, name: str, peers: Any) -> Environment:
        return Environment(
            block=block,
            server=server,
            view="",
            counters=self.counters,
            clock=self.clock,
            ask=lambda query: self.listener.ask(query),  # noqa: PLW0108 - the listener is made later
            log=logging.getLogger(f"svcdns.plugin.{name}"),
            index=lambda _watch: self.index,
            kept=self._keep,
            peers=peers,
            local_addresses=(LOCAL,),
            listen_addresses=listen,
            random=Random(1),
        )

    def _keep(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]
