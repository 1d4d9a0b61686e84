"""Building the chains of all server blocks, and the listeners that they are reached by.

Each block gets one instance of each of its plugins, shared by all its zones. A chain is built beside the one that serves; nothing of
it runs before `start`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from svcdns.chain.client_classes import Classes
from svcdns.chain.plan import BlockPlan, Load
from svcdns.chain.routing import Listener, Route
from svcdns.plugin_api.closest_encloser import Encloser, FindEncloser
from svcdns.plugin_api.contract import Following, Handler
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Observer, Query
from svcdns.plugin_api.reply import rcode_only
from svcdns.wire import names
from svcdns.wire.codes import Rcode
from svcdns.wire.edns import ECHOED_OPTIONS

Host = str
Peers = Callable[[str], tuple[Handler, ...]]
MakeEnvironment = Callable[[Block, str, tuple[tuple[str, int], ...], str, Peers], Environment]
"""Makes a plugin's environment from its block, server label, listen addresses, the plugin's name, and the block's handlers."""

_OPENS_CLASSES = frozenset({"chaos", "forward"})


@dataclass(slots=True)
class Chains:
    """Everything that was built from one Corefile."""

    listeners: dict[tuple[str, int], Listener] = field(default_factory=dict)
    handlers: list[Handler] = field(default_factory=list)

    def start(self) -> None:
        """Starts the plugins that have something to start, in chain order."""
        for handler in self.handlers:
            getattr(handler, "start", _nothing)()

    def stop(self) -> None:
        """Stops them, in chain order."""
        for handler in self.handlers:
            getattr(handler, "stop", _nothing)()

    def unready(self) -> tuple[str, ...]:
        """Names of the plugins that say they are not ready, sorted."""
        return tuple(sorted({h.name for h in self.handlers if not getattr(h, "ready", _always)()}))


def build(plans: Sequence[BlockPlan], hosts: Sequence[Sequence[Host]], load: Load, environment: MakeEnvironment) -> Chains:
    """The chains of the planned blocks. `hosts` has, for each block, the addresses it is bound to, `("",)` for all."""
    chains = Chains()
    for block_plan, block_hosts in zip(plans, hosts, strict=True):
        _build_block(chains, block_plan, block_hosts, load, environment)
    echoed = ECHOED_OPTIONS.union(*(getattr(handler, "echoed_options", ()) for handler in chains.handlers))
    for listener in chains.listeners.values():
        listener.echoed = echoed
        looking = [handler for handler in listener.handlers if hasattr(handler, "client_class")]
        listener.classes = Classes(looking) if looking else None
    return chains


def _build_block(chains: Chains, block: BlockPlan, hosts: Sequence[Host], load: Load, environment: MakeEnvironment) -> None:
    listen = tuple(dict.fromkeys((host, key.port) for key in block.keys for host in hosts))
    server = Listener(*listen[0], transport=block.keys[0].transport).server
    handlers: list[Handler] = []

    def peers(name: str) -> tuple[Handler, ...]:
        return tuple(handler for handler in handlers if name in ("", handler.name))

    for name, options in block.options.items():
        plugin: Any = load(name).PLUGIN
        if plugin is not None:
            handlers.append(plugin(options, environment(block.block(name), server, listen, name, peers)))
    chains.handlers += handlers
    entry = chain(handlers)
    observers: tuple[Observer, ...] = tuple(h.observe for h in handlers if hasattr(h, "observe"))
    counted = "prometheus" in block.options
    writer = _behind_prometheus(list(block.options), handlers)
    closest_encloser, fast_path = (None, None) if observers else (_negative_answers(handlers), _fast_path(handlers))
    for key in block.keys:
        zone = names.from_text(key.zone).lower()
        route = Route(zone, key.zone, entry, counted, writer, "", observers, closest_encloser, fast_path)
        for host in hosts:
            listener = chains.listeners.setdefault((host, key.port), Listener(host, key.port, key.transport))
            if "timeouts" in block.options:
                listener.timeouts = block.options["timeouts"].timeouts
            if "tls" in block.options and key.transport == "tls":
                listener.security = block.options["tls"].data_key
            listener.routes[zone] = route
            if fast_path is not None:
                listener.inner += tuple(one for one in fast_path.zones if one not in listener.inner)
            listener.handlers += [handler for handler in handlers if handler not in listener.handlers]
            listener.any_class = listener.any_class or not _OPENS_CLASSES.isdisjoint(block.options)
            listener.counted = listener.counted or counted
            listener.observed = listener.observed or bool(observers)


def _behind_prometheus(directives: list[str], handlers: Sequence[Handler]) -> str:
    """The first handler behind `prometheus` in chain order; CoreDNS labels responses with it
    (docs/behaviour/server.md#metrics-of-queries)."""
    behind = directives[directives.index("prometheus") + 1 :] if "prometheus" in directives else []
    return next((h.name for h in handlers if h.name in behind), "")


def _negative_answers(handlers: Sequence[Handler]) -> FindEncloser | None:
    """The first handler's knowledge of what its zones lack, for those zones whose names all before it treat alike."""
    for number, handler in enumerate(handlers):
        if hasattr(handler, "closest_encloser"):
            zones: tuple[bytes, ...] = handler.zones  # type: ignore[attr-defined]
            before = handlers[:number]
            name_independent = frozenset(
                zone for zone in zones if all(hasattr(one, "name_independent") and one.name_independent(zone) for one in before)
            )
            return (
                handler.closest_encloser
                if len(name_independent) == len(zones)
                else _within(name_independent, handler.closest_encloser)
                if name_independent
                else None
            )
    return None


def _fast_path(handlers: Sequence[Handler]) -> FastPath | None:
    """The short way of the block, where all of its handlers take part, a cache and one that asks among them."""
    fast_path = FastPath()
    if not all(hasattr(handler, "join_fast_path") and handler.join_fast_path(fast_path) for handler in reversed(handlers)):
        return None
    return fast_path if fast_path.ask is not None and fast_path.keep is not None else None


def _within(zones: frozenset[bytes], closest_encloser: FindEncloser) -> FindEncloser:
    def ask(key: bytes, rtype: int) -> Encloser | None:
        found = closest_encloser(key, rtype)
        return found if found is not None and any(names.is_within(found.key, zone) for zone in zones) else None

    return ask


def chain(handlers: Sequence[Handler]) -> Following | None:
    """The handlers as one function, outermost first; None without any. Behind the last one nothing answers."""
    if not handlers:
        return None
    following = _end(handlers[-1].name)
    for handler in reversed(handlers):
        following = _link(handler, following)
    return following


def _link(handler: Handler, following: Following) -> Following:
    handle = handler.handle

    def ask(query: Query) -> Answer:
        return handle(query, following)

    return ask


def _end(name: str) -> Following:
    reply = rcode_only(Rcode.SERVFAIL, f"plugin/{name}: no next plugin found")

    def ask(_query: Query) -> Answer:
        return reply

    return ask


def _nothing() -> None:
    return None


def _always() -> bool:
    return True
