"""Answers queries in this process with the plugin chains of a Corefile, and records the plugins that each query
reaches.

There are no sockets for clients, and no answer table. If the Corefile has `forward`, upstreams are queried.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from svcdns import plugins
from svcdns.chain.build import Chains, build
from svcdns.chain.link import link
from svcdns.chain.routing import Listener, Route
from svcdns.cluster.changes import Dependency
from svcdns.cluster.index import Index
from svcdns.cluster.watch_options import WatchOptions, encode_watch
from svcdns.control.plugin_data import PluginData
from svcdns.eventloop.clock import monotonic
from svcdns.inspection.reading import Reading
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.hooks import HookCaller
from svcdns.plugin_api.query import Answer, Client, Query
from svcdns.plugin_api.reply import Reply
from svcdns.telemetry.counters import Counters
from svcdns.upstream.server import Server
from svcdns.wire.codes import RD, Class, Rcode
from svcdns.wire.record import Edns

CLIENT: Final = Client("127.0.0.1", 40000, "127.0.0.1", 53, "udp")
_SIZE: Final = 1232


@dataclass(slots=True)
class Step:
    """A plugin that a query reached, with the query's name and type there, and the plugin's reply.

    For queries that plugins send to this server, `depth` is above 0. `reply` is None until a reply arrives.
    """

    plugin: str
    name: bytes
    rtype: int
    depth: int
    reply: Reply | None = None


@dataclass(slots=True)
class SelfQuery:
    """A query that a plugin sent to this server, with the server block that answers it, as in `Trace`.

    `first_step` is the number of the first step of the trace that can belong to this query.
    """

    name: bytes
    rtype: int
    depth: int
    zone: str
    block: int
    first_step: int
    reply: Reply | None = None


@dataclass(slots=True)
class Trace:
    """The plugins that one query reached.

    `zone` is the zone of the server block, or empty if no block serves the name.
    """

    name: bytes
    rtype: int
    client: Client
    zone: str = ""
    block: int = -1
    """The number of the server block in the Corefile, from 0; -1 without a block."""
    steps: list[Step] = field(default_factory=list)
    reply: Reply = field(default_factory=Reply)
    error: str = ""
    self_queries: list[SelfQuery] = field(default_factory=list)
    """The queries that plugins sent to this server, in their order."""

    def of_self_query(self, asked: SelfQuery) -> Trace:
        """Returns the trace of a self-query, with depth 0 for the plugins that the self-query reached."""
        steps = [replace(one, depth=one.depth - asked.depth) for one in self.steps[asked.first_step :]]
        own = [one for one in steps if one.depth >= 0]
        reply = asked.reply or Reply(rcode=Rcode.SERVFAIL)
        return Trace(asked.name, asked.rtype, self.client, asked.zone, asked.block, own, reply, reply.error)

    @property
    def maker(self) -> str:
        """Returns the name of the plugin that made the reply, or an empty text.

        This is the last plugin that the query reached.
        """
        own = [step for step in self.steps if step.depth == 0]
        return own[-1].plugin if own else ""


_traced: ContextVar[Trace | None] = ContextVar("traced", default=None)
"""The query whose way is recorded. Queries that plugins send from their own tasks, such as those of *loop*, are not."""


class OfflineServer:
    """The plugin chains of a Corefile with the state of its clusters. Use it in a running event loop."""

    def __init__(self, reading: Reading, indexes: Mapping[bytes, Index], data: PluginData) -> None:
        """`indexes` has an index for the encoded watch options of each `kubernetes` directive.

        `data` has the content of the files that plugins have read. Raises SvcdnsError if the chains cannot be built.
        """
        self._reading, self._indexes, self._data = reading, dict(indexes), dict(data)
        self._kept: dict[Any, Any] = {}
        self._counters = Counters()
        self.chains: Chains = build(
            reading.plans, reading.hosts, plugins.load, self._environment, HookCaller(self._counters), self._join
        )
        self._ask_server = {one.server: partial(self._asked, one) for one in self.chains.listeners.values()}

    def index(self, options: WatchOptions) -> Index:
        """Returns the index for watch options."""
        return self._indexes[encode_watch(options)]

    def start(self) -> None:
        """Starts the plugins."""
        self.chains.start()

    def stop(self) -> None:
        """Stops the plugins, and closes the sockets to upstreams."""
        self.chains.stop()
        for kept in self._kept.values():
            if isinstance(kept, Server):
                kept.stop()

    async def ask(self, name: bytes, rtype: int, client: Client = CLIENT, *, port: int = 0) -> Trace:
        """Answers a query (wire name, type), and returns its trace.

        With `port` 0, the listener of the first server block answers.
        """
        listeners = [one for one in self.chains.listeners.values() if port in (0, one.port)]
        trace = Trace(name, rtype, client)
        if not listeners:
            trace.error = f"no server block of the Corefile listens on port {port}"
            return trace
        key = name.lower()
        listener = next((one for one in listeners if one.find(key, rtype) is not None), listeners[0])
        query = Query(
            name,
            key,
            rtype,
            Class.IN,
            RD,
            Edns(_SIZE),
            client,
            listener.ask,
            size=_SIZE,
            listener=listener.server,
        )
        route = listener.route(query)
        if route.entry is not None:
            trace.zone = route.zone_text
            trace.block = self._block_of(route, listener.port)
        token = _traced.set(trace)
        try:
            trace.reply = await _arrived(listener.answer(query, route))
        finally:
            _traced.reset(token)
        trace.error = trace.reply.error
        return trace

    def _block_of(self, route: Route, port: int) -> int:
        """Returns the number of the server block with this route. Blocks of the same zone differ by their view."""
        for number, plan in enumerate(self._reading.plans):
            view = next((one.view.name for one in plan.settings.values() if one.view is not None), "")
            if view == route.view and any((key.zone, key.port) == (route.zone_text, port) for key in plan.keys):
                return number
        return -1

    def _join(self, plugin: Plugin, following: Following) -> Following:
        """Links a plugin as a server does, and records each query that reaches it."""
        linked = link(plugin, following)

        def handle(query: Query) -> Answer:
            step = Step(plugin.name, query.name, query.rtype, query.depth)
            trace = _traced.get()
            if trace is not None:
                trace.steps.append(step)
                query.ask_server = self._ask_server[query.listener]

            def note(reply: Reply) -> Reply:
                step.reply = reply
                return reply

            return _with(linked(query), note)

        return handle

    # -- the worker, in the form that plugins get

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
            clock=monotonic,
            ask=partial(self._ask, (*listen[0], block.keys[0].transport)),
            log=logging.getLogger(f"svcdns.plugin.{name}"),
            index=self.index,
            kept=self._keep,
            data=lambda plugin, key: self._data.get((plugin, key)),  # type: ignore[call-overload]
            invalidate=self._invalidate,
            peers=peers,
            listen_addresses=listen,
            own_zones=self._own_zones,
        )

    def _ask(self, where: tuple[str, int, str], query: Query) -> Answer:
        return self._asked(self.chains.listeners[where], query)

    def _asked(self, listener: Listener, query: Query) -> Answer:
        """Answers a self-query as a server does, and records it."""
        trace = _traced.get()
        if trace is None:
            return listener.ask(query)
        route = listener.route(query)
        is_served = route.entry is not None
        asked = SelfQuery(
            query.name,
            query.rtype,
            query.depth,
            route.zone_text if is_served else "",
            self._block_of(route, listener.port) if is_served else -1,
            len(trace.steps),
        )
        trace.self_queries.append(asked)

        def note(reply: Reply) -> Reply:
            asked.reply = reply
            return reply

        return _with(listener.ask(query), note)

    def _own_zones(self) -> tuple[bytes, ...]:
        return self.chains.own_zones()

    def _keep(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _invalidate(self, dependencies: tuple[Dependency, ...]) -> None:
        for handler in self.chains.handlers:
            handler.invalidate(set(dependencies))


def _with(answer: Answer, note: Callable[[Reply], Reply]) -> Answer:
    """Returns the answer. `note` gets its reply when it arrives."""
    if isinstance(answer, Reply):
        return note(answer)
    if isinstance(answer, Deferred):
        answer.then(note)
        return answer
    return _noted(answer, note)


async def _noted(answer: Awaitable[Reply], note: Callable[[Reply], Reply]) -> Reply:
    return note(await answer)


async def _arrived(answer: Answer) -> Reply:
    if isinstance(answer, Reply):
        return answer
    if isinstance(answer, Deferred):
        arrived: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        answer.take(arrived.set_result, arrived.set_exception)
        return await arrived
    return await answer
