"""A worker without sockets, for the contract check: the plugin chain of one server block, and its answer tables.

The clock is virtual. Files are read as the control process reads them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

from svcdns import plugins
from svcdns.chain.build import build
from svcdns.chain.plan import BlockPlan, plan
from svcdns.chain.routing import Listener
from svcdns.cluster.changes import Change, Complete, Dependency, Kind
from svcdns.cluster.index import Index
from svcdns.corefile.directives import check_directives
from svcdns.corefile.parser import parse
from svcdns.errors import SvcdnsError
from svcdns.plugin_api.contract import Following, Plugin, contents, overrides, then
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.errors import ContractError, HookError
from svcdns.plugin_api.hooks import HookCaller
from svcdns.plugin_api.query import Answer, Client, Query
from svcdns.plugin_api.reply import Reply
from svcdns.serving.answer_table import AnswerTable
from svcdns.serving.in_flight import InFlight
from svcdns.serving.metrics import QueryMetrics
from svcdns.serving.responder import Responder
from svcdns.telemetry.counters import Counters
from svcdns.testing.author import Failures, check_options, reply_error
from svcdns.testing.rest import Rest

PORTS: Final = (53, 54)

_FIRST: Final = "contract_check_first"
_LAST: Final = "contract_check_rest"
_TABLE: Final = 1 << 24
"""The budget of an answer table in octets."""
_STEPS: Final = 1000
"""The most iterations of the event loop until a reply must be there."""


class Server:
    """The plugin chain and the answer tables of one server block, for the contract check.

    The last plugin of the chain answers every query that reaches it.
    """

    def __init__(
        self, module: Any, block: str, rest: Rest, cluster: Sequence[Change], failures: Failures, *, stores: bool
    ) -> None:
        """If `stores` is false, the server drops its answer tables before each query. Raises SvcdnsError."""
        self._module, self._name, self._stores, self._failures = module, module.PLUGIN.name, stores, failures
        self.hits = 0
        self._now = 1000.0
        self._counters = Counters()
        self._kept: dict[Any, Any] = {}
        self._data: dict[tuple[str, str], bytes] = {}
        self._on_data: dict[tuple[str, str], list[Callable[[bytes], None]]] = {}
        self._index = Index(frozenset(Kind))
        for change in (*cluster, *map(Complete, Kind)):
            self._index.apply(change)
        self._edges = {_FIRST: _module(_first(self._found)), _LAST: _module(_last(rest, self._clock))}
        self._reply_error = ""
        self._plans = self._plan(block)
        check_options(self._name, *(one[0].options[self._name] for one in (self._plans, self._plan(block))))
        self._hooks = HookCaller(self._counters)
        self._gather()
        try:
            self.chains = build(self._plans, [("",)], self._load, self._environment, self._hooks)
        except SvcdnsError:
            failures.check()  # says where the plugin failed
            raise
        self._responders: dict[tuple[int, str, int], Responder] = {}
        self.chains.start()
        failures.check()

    def _plan(self, block: str) -> tuple[BlockPlan, ...]:
        keys = " ".join(f".:{port}" for port in PORTS)
        alone = parse(f"{keys} {{ {block}\n}}\n", "block", environ={})
        if alone.warnings or len(alone.blocks) != 1:
            raise ContractError((*alone.warnings, "the text of one server block without its braces was expected")[0])
        corefile = parse(f"{keys} {{ {block}\n{_FIRST}\n{_LAST}\n}}\n", "block", environ={})
        directives = {directive.name.text for one in corefile.blocks for directive in one.directives}
        order, built = plugins.known(directives - {self._name, *self._edges})
        if self._name not in order:
            order = plugins.placed(order, {self._name: self._module.PLUGIN.before})
        order = (_FIRST, *order, _LAST)
        check_directives(corefile, order, {*built, self._name, *self._edges})
        if self._name not in directives:
            raise ContractError(f"the block does not have the directive '{self._name}'")
        return plan(corefile, order, self._load)

    def has(self, directive: str) -> bool:
        """Returns True if the block has the directive."""
        return directive in self._plans[0].options

    def _load(self, directive: str) -> Any:
        return self._module if directive == self._name else self._edges.get(directive) or plugins.load(directive)

    # -- files

    def _gather(self) -> None:
        """Reads the files of all plugins for the Corefile, as the control process does at a start."""
        for name, options in self._plans[0].options.items():
            if callable(getattr(self._load(name), "gather", None)):
                self._take_all(name, self._called(name, "gather", options, {}))

    def refresh(self, *, changed: bool = False) -> None:
        """Reads the files of all plugins again, as the control process does.

        If `refresh` raises a SvcdnsError, the previous content stays in use. Any other exception becomes a SvcdnsError.
        If `changed` is true, checks that `refresh` of the plugin has the same result as `gather`.
        """
        for name, options in self._plans[0].options.items():
            module = self._load(name)
            if not hasattr(module, "gather") or not (changed or hasattr(module, "period")):
                continue
            known = {key: payload for (plugin, key), payload in self._data.items() if plugin == name}
            hook = "refresh" if hasattr(module, "period") else "gather"
            if hook == "gather" or self._called(name, "period", options) > 0:
                self._take_all(name, self._read(name, hook, options, known))
            if hook == "refresh" and changed and name == self._name:
                self._check_refreshed(name, options)
        self._failures.check()

    def _check_refreshed(self, name: str, options: Any) -> None:
        for key, payload in self._read(name, "gather", options, {}).items():
            if self._data.get((name, key)) != payload:
                raise ContractError(f"plugin/{name}: gather has new content for '{key}', and refresh has not")

    def _read(self, name: str, hook: str, options: Any, known: dict[str, bytes]) -> dict[str, bytes]:
        """Calls `gather` or `refresh`. Returns an empty mapping if the file cannot be read now. Raises HookError."""
        try:
            found: dict[str, bytes] = self._called(name, hook, options, known)
        except HookError:
            raise
        except SvcdnsError:
            return {}
        return found

    def _called(self, name: str, hook: str, *arguments: Any) -> Any:
        """Calls a hook of a plugin's module as the control process does. Raises SvcdnsError."""
        position = self._plans[0].block(name).directives[0].position
        try:
            found = getattr(self._load(name), hook)(*arguments)
            return float(found) if hook == "period" else contents(found)
        except SvcdnsError:
            raise
        except Exception as error:
            raise HookError(position, name, hook, error) from error

    def _take_all(self, plugin: str, found: dict[str, bytes]) -> None:
        for key, payload in found.items():
            if self._data.get((plugin, key)) != payload:
                self._take(plugin, key, payload)

    def _take(self, plugin: str, key: str, payload: bytes) -> None:
        self._data[plugin, key] = payload
        for call in self._on_data.get((plugin, key), ()):
            self._hooks.call(plugin, None, call, payload)

    # -- queries

    def advance(self, seconds: float) -> None:
        """Lets `seconds` pass on the virtual clock."""
        self._now += seconds
        self.chains.tick()

    def check_classes(self, addresses: Sequence[str]) -> None:
        """Checks that `client_class` of the plugin returns a text for each of these addresses. Raises ContractError."""
        for handler in self.chains.handlers:
            if overrides(handler, "client_class"):
                for address in addresses:
                    found: Any = self._hooks.call(handler.name, "", handler.client_class, address)
                    self._failures.check()
                    if not isinstance(found, str):
                        raise ContractError(
                            f"plugin/{handler.name}: client_class returned {type(found).__name__}; a text was expected"
                        )

    async def answer(self, packet: bytes, client: Client) -> tuple[bytes, bool]:
        """Returns the encoded reply, and True if it came from an answer table.

        Raises ContractError if a plugin raised an exception, or made a reply that cannot be encoded.
        """
        responder = self._responder(client)
        if not self._stores:
            responder.table.clear()
        lookup = responder.lookup_limited if responder.limited else responder.lookup
        wire = lookup(packet, client, 0.0) if self._stores else b""
        if wire:
            self.hits += 1
            return wire, True
        sent: list[bytes] = []
        responder.answer(packet, client, sent.append, 0.0)
        for _ in range(_STEPS):
            if sent:
                break
            await asyncio.sleep(0)
        if self._reply_error:
            raise ContractError(f"a reply is wrong: {self._reply_error}")
        self._failures.check()
        if not sent:
            raise ContractError("no reply came: an awaitable that the plugin returned does not end")
        return sent[0], False

    def _found(self, reply: Reply) -> Reply:
        """Keeps the first error in a reply of the plugin chain, and returns the reply."""
        self._reply_error = self._reply_error or reply_error(reply)
        return reply

    def _responder(self, client: Client) -> Responder:
        listener: Listener = self.chains.answering("", client.local_port, client.protocol)
        key = (client.local_port, client.protocol, client.family)
        if key not in self._responders:
            table = AnswerTable(_TABLE, self._clock)
            metrics = QueryMetrics(self._counters, listener.server, client.protocol, client.family)
            self._responders[key] = Responder(listener, table, metrics, client.protocol, InFlight())
        return self._responders[key]

    # -- the worker, in the form that plugins get

    def _ask(self, where: tuple[str, int, str], query: Query) -> Answer:
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
            ask=partial(self._ask, (*listen[0], block.keys[0].transport)),
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


def _module(plugin: type[Plugin]) -> Any:
    return SimpleNamespace(PLUGIN=plugin, parse=lambda _block: None)


def _first(found: Callable[[Reply], Reply]) -> type[Plugin]:
    class First(Plugin):
        """The first plugin of the plugin chain, which gets every reply of the block."""

        name = _FIRST
        states_reuse = True

        def handle(self, query: Query, following: Following) -> Answer:
            """Passes the reply of the following plugins to the function `found`, and answers with the result."""
            return then(following(query), found)

        def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002 - all zones
            return True

    return First


def _last(rest: Rest, clock: Callable[[], float]) -> type[Plugin]:
    class Last(Plugin):
        """The last plugin of the plugin chain, which answers the queries that no plugin of the block answers."""

        name = _LAST
        states_reuse = True

        def handle(self, query: Query, following: Following) -> Answer:  # noqa: ARG002 - the last one
            return rest(query, clock)

    return Last
