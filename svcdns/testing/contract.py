"""The contract check: a server with an answer table must answer every query as a server without one.

Both servers have the plugin in their chain. They get the same packets at the same virtual times, each packet several
times. The packets come from several clients, over several transports and listeners, while the plugin's files change.
The server without a table drops all stored replies before each query. If the replies differ, the table sent a stored
reply to a client, or at a time, for which that reply was wrong.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final

from svcdns.chain.build import build
from svcdns.chain.plan import plan
from svcdns.chain.routing import Listener
from svcdns.cluster.changes import Change, Complete, Dependency, Kind
from svcdns.cluster.index import Index
from svcdns.corefile.parser import parse
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.hooks import PANICS, HookCaller
from svcdns.plugin_api.query import Answer, Client, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.plugins import BUILT, ORDER, placed
from svcdns.serving.answer_table import AnswerTable
from svcdns.serving.in_flight import InFlight
from svcdns.serving.metrics import QueryMetrics
from svcdns.serving.responder import Responder
from svcdns.telemetry.counters import Counters, samples
from svcdns.wire import names
from svcdns.wire.codes import AA, RD, Class, Type, type_text
from svcdns.wire.message import encode_query, parse_message
from svcdns.wire.record import Edns, Record

CLIENTS: Final = (
    Client("10.1.2.3", 40001, "192.0.2.53", 53, "udp"),
    Client("10.1.2.4", 40002, "192.0.2.54", 53, "udp"),
    Client("192.0.2.7", 40003, "192.0.2.53", 53, "udp"),
    Client("2001:db8::7", 40004, "2001:db8::53", 53, "udp", 2),
)
"""Clients in three networks; two clients are in the same network."""
PORTS: Final = (53, 54)
STEPS: Final = (0.0, 0.6, 4.4, 60.0)
"""The seconds that pass before each round of queries."""
TIMES: Final = 3
"""How often each query is sent in a round.

The table stores a reply when its query comes for the second time, and uses it from the third time on.
"""

_RDATA: Final[dict[int, bytes]] = {Type.A: b"\xc0\0\2\1", Type.AAAA: bytes(15) + b"\1", Type.TXT: b"\4rest"}
_LAST: Final = "contract_check_rest"


def check_contract(
    module: Any,
    block: str,
    queries: Sequence[tuple[str, str]],
    *,
    rest: Callable[[Query], Answer] | None = None,
    changes: Sequence[Callable[[], object]] = (),
    cluster: Iterable[Change] = (),
    clients: Sequence[Client] = CLIENTS,
) -> int:
    """Checks a plugin module, and returns how many replies came from the answer table.

    `block` is the text of a server block with the plugin's directive, and any other directives. `queries` are pairs of
    a name and a type, both as text; the type `CH TXT` is TXT in class CH. `rest` answers queries that pass the last
    plugin; by default, every name has an address and a text.

    `changes` are functions that change the files which the plugin's `gather` reads. They are called one by one, between
    rounds of queries. `cluster` has the objects of the cluster.

    Do not call this function while an event loop runs. Raises AssertionError if the plugin fails the check.
    """
    return asyncio.run(_check(module, block, queries, rest or _everything, changes, tuple(cluster), clients))


async def _check(
    module: Any,
    block: str,
    queries: Sequence[tuple[str, str]],
    rest: Callable[[Query], Answer],
    changes: Sequence[Callable[[], object]],
    cluster: Sequence[Change],
    clients: Sequence[Client],
) -> int:
    servers = with_table, without = [_Server(module, block, rest, cluster, stores=stores) for stores in (True, False)]
    ident = 0
    try:
        for change in (None, *changes):
            if change is not None:
                change()
                for server in servers:
                    server.gather()
            for seconds in STEPS:
                for server in servers:
                    server.advance(seconds)
                for number in range(TIMES * len(queries)):
                    name, rtype = queries[number % len(queries)]
                    for client in clients:
                        for protocol, port in (("udp", PORTS[0]), ("tcp", PORTS[0]), ("udp", PORTS[1])):
                            ident += 1
                            packet = _packet(ident & 0xFFFF, name, rtype)
                            at = Client(
                                client.address, client.port, client.local_address, port, protocol, client.family
                            )
                            found = await with_table.answer(packet, at)
                            expected = await without.answer(packet, at)
                            if found != expected:
                                where = f"{name} {rtype} from {at.address} to port {port} over {protocol}"
                                raise AssertionError(
                                    f"{where}: {found} came from the answer table, {expected} was expected"
                                )
        for server in servers:
            server.check_failures()
    finally:
        for server in servers:
            server.chains.stop()
    return with_table.hits


def _packet(ident: int, name: str, rtype: str) -> bytes:
    rclass, _, kind = rtype.rpartition(" ")
    return encode_query(ident, RD, names.from_text(name), Type[kind], Class[rclass or "IN"], Edns(1232))


def _everything(query: Query) -> Reply:
    """Returns an answer for every name."""
    rdata = _RDATA.get(query.rtype)
    records = () if rdata is None else (Record(query.name, query.rtype, 30, rdata, query.rclass),)
    return Reply(flags=query.reply_flags | AA, answer=records, lifetime=UNTIL_CHANGED, dependencies=(("rest",),))


class _Server:
    """A worker without sockets."""

    def __init__(
        self, module: Any, block: str, rest: Callable[[Query], Answer], cluster: Sequence[Change], *, stores: bool
    ) -> None:
        self._module, self._stores = module, stores
        self.hits = 0
        self._now = 1000.0
        self._counters = Counters()
        self._kept: dict[Any, Any] = {}
        self._data: dict[tuple[str, str], bytes] = {}
        self._on_data: dict[tuple[str, str], list[Callable[[bytes], None]]] = {}
        self._index = Index(frozenset(Kind))
        for change in (*cluster, *map(Complete, Kind)):
            self._index.apply(change)

        class Rest(Plugin):
            """The last plugin of the chain, after the plugins of the block."""

            name = _LAST
            states_reuse = True

            def handle(self, query: Query, following: Following) -> Answer:  # noqa: ARG002 - the last one
                """Calls `rest`, which answers the query."""
                return rest(query)

        last = SimpleNamespace(PLUGIN=Rest, parse=lambda _block: None)
        name = module.PLUGIN.name

        def load(directive: str) -> Any:
            if directive in (name, _LAST):
                return module if directive == name else last
            return importlib.import_module(BUILT[directive])

        order = ORDER if name in ORDER else placed(ORDER, {name: module.PLUGIN.before})
        text = f".:{PORTS[0]} .:{PORTS[1]} {{\n{block}\n{_LAST}\n}}\n"
        self._plans = plan(parse(text, "Corefile", environ={}), (*order, _LAST), load)
        self._load = load
        self.gather()
        self.chains = build(self._plans, [("",)], load, self._environment, HookCaller(self._counters))
        self._responders: dict[tuple[int, str, int], Responder] = {}
        self.chains.start()

    def gather(self) -> None:
        """Calls `gather` of each plugin, as control does, and passes new file contents to the plugins."""
        for block in self._plans:
            for name, options in block.options.items():
                gather = getattr(self._load(name), "gather", None)
                found: Mapping[str, bytes] = {} if gather is None else gather(options, {})
                for key, payload in found.items():
                    if self._data.get((name, key)) != payload:
                        self._take(name, key, payload)

    def _take(self, plugin: str, key: str, payload: bytes) -> None:
        self._data[plugin, key] = payload
        for call in self._on_data.get((plugin, key), ()):
            call(payload)

    def advance(self, seconds: float) -> None:
        """Lets `seconds` pass on the virtual clock."""
        self._now += seconds
        self.chains.tick()

    async def answer(self, packet: bytes, client: Client) -> object:
        """Returns the reply in a form that can be compared: records are text, in sorted order."""
        responder = self._responder(client)
        if not self._stores:
            responder.table.clear()
        wire = responder.lookup(packet, client, 0.0) if self._stores else b""
        self.hits += bool(wire)
        if not wire:
            sent: list[bytes] = []
            responder.answer(packet, client, sent.append, 0.0)
            for _ in range(1000):
                if sent:
                    break
                await asyncio.sleep(0)
            assert sent, "no reply came"
            wire = sent[0]
        return _shown(wire)

    def check_failures(self) -> None:
        """Raises AssertionError if a plugin raised an exception."""
        for sample in samples(self._counters._region):  # noqa: SLF001 - the region of this process
            assert sample.family.name != PANICS.name or not sample.cells[0], (
                "the plugin raised an exception; see the log"
            )

    def _responder(self, client: Client) -> Responder:
        listener: Listener = self.chains.listeners["", client.local_port]
        key = (client.local_port, client.protocol, client.family)
        if key not in self._responders:
            table = AnswerTable(1 << 24, self._clock)
            metrics = QueryMetrics(self._counters, listener.server, client.protocol, client.family)
            self._responders[key] = Responder(listener, table, metrics, client.protocol, InFlight())
        return self._responders[key]

    def _ask(self, where: tuple[str, int], query: Query) -> Answer:
        return self.chains.listeners[where].ask(query)

    def _clock(self) -> float:
        return self._now

    def _invalidate(self, dependencies: tuple[Dependency, ...]) -> None:
        for responder in self._responders.values():
            responder.table.invalidate(set(dependencies))
        for listener in self.chains.listeners.values():
            if listener.classes is not None:
                listener.classes.invalidate(dependencies)
        for handler in self.chains.handlers:
            handler.invalidate(set(dependencies))

    def _invalidate_all(self) -> None:
        for responder in self._responders.values():
            responder.table.clear()

    def _keep(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _environment(
        self,
        block: Block,
        server: str,
        listen: tuple[tuple[str, int], ...],
        name: str,
        peers: Callable[[str], tuple[Plugin, ...]],
    ) -> Environment:
        return Environment(
            block=block,
            server=server,
            view="",
            counters=self._counters,
            clock=self._clock,
            ask=lambda query: self._ask(listen[0], query),
            log=logging.getLogger(f"svcdns.plugin.{name}"),
            index=lambda _watch: self._index,
            kept=self._keep,
            data=lambda plugin, key: self._data.get((plugin, key)),
            on_data=lambda plugin, key, call: self._on_data.setdefault((plugin, key), []).append(call),
            invalidate=self._invalidate,
            invalidate_all=self._invalidate_all,
            publish=self._take,
            peers=peers,
            local_addresses=("192.0.2.53",),
            listen_addresses=listen,
        )


def _shown(wire: bytes) -> object:
    if not wire:
        return "no reply"
    message = parse_message(wire)
    sections = [
        sorted(f"{names.to_text(r.owner)} {r.ttl} {type_text(r.rtype)} {r.rdata.hex()}" for r in section)
        for section in (message.answer, message.authority, message.additional)
    ]
    return (message.ident, hex(message.flags), *sections, message.edns)
