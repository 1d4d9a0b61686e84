"""Builds the plugin chains of all server blocks, and the listeners that serve them.

A block has one instance of each plugin, which all zones of the block share. No plugin runs before `start`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from svcdns.chain.client_classes import Classes
from svcdns.chain.link import link
from svcdns.chain.plan import BlockPlan, Load
from svcdns.chain.routing import Listener, Route, ZoneLabels
from svcdns.chain.taps import guarded
from svcdns.chain.tracing import count_for_samplers, sampler_of
from svcdns.corefile.blocks import Position, ServerKey
from svcdns.corefile.transports import PROTOCOLS
from svcdns.errors import SvcdnsError
from svcdns.log_line import LogLine
from svcdns.plugin_api.closest_encloser import Encloser, FindEncloser
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin, check_names, check_plugin, overrides
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.errors import HookError
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.hooks import HookCaller
from svcdns.plugin_api.metadata import Provider
from svcdns.plugin_api.query import Answer, Observer, PacketObserver, Query
from svcdns.plugin_api.reply import rcode_only
from svcdns.plugin_api.tap import Tap
from svcdns.wire import names
from svcdns.wire.codes import Rcode
from svcdns.wire.edns import DEFAULT_SIZE, NO_CODES
from svcdns.wire.message import MAX_MESSAGE

Host = str
ListenerKey = tuple[str, int, str]
"""The host, port and transport of a listener."""
Join = Callable[[Plugin, Following], Following]
"""Links a plugin to the function that stands for the rest of its chain (`svcdns.chain.link`)."""
Peers = Callable[[str], tuple[Plugin, ...]]
MakeEnvironment = Callable[[Block, str, tuple[tuple[str, int], ...], str, Peers], Environment]
"""Makes the environment of a plugin.

The arguments are the plugin's block, the server label, the listen addresses, the plugin's name, and a function that
returns the handlers of the block by name.
"""

log: Final = logging.getLogger("svcdns")


@dataclass(frozen=True, slots=True)
class BuiltBlock:
    """A server block with its plugin chain.

    `handlers` has the plugins in chain order, each with its options. `routes` has the route of each key.
    """

    keys: tuple[ServerKey, ...]
    listen: tuple[tuple[str, int], ...]
    handlers: tuple[tuple[Plugin, object], ...]
    routes: tuple[Route, ...]


@dataclass(slots=True)
class Chains:
    """The plugin chains and listeners of one Corefile.

    `slow_blocks` has the zones of each block that forwards queries without the fast path, and the reason.
    """

    hooks: HookCaller
    blocks: list[BuiltBlock] = field(default_factory=list)
    listeners: dict[ListenerKey, Listener] = field(default_factory=dict)
    handlers: list[Plugin] = field(default_factory=list)
    slow_blocks: list[tuple[str, str]] = field(default_factory=list)

    def start(self) -> None:
        """Starts the plugins, in chain order."""
        for handler in self.handlers:
            self.hooks.call(handler.name, None, handler.start)

    def stop(self) -> None:
        """Stops the plugins, in chain order."""
        for handler in self.handlers:
            self.hooks.call(handler.name, None, handler.stop)

    def tick(self) -> None:
        """Calls the hook `tick` of the plugins that have one. Called once a second."""
        for handler in self.having("tick"):
            self.hooks.call(handler.name, None, handler.tick)

    def having(self, hook: str) -> list[Plugin]:
        """Returns the plugins that override the hook `hook`."""
        return [handler for handler in self.handlers if overrides(handler, hook)]

    def answering(self, host: str, port: int, protocol: str) -> Listener:
        """Returns the listener of a host and port, for `protocol` (`udp` or `tcp`). Raises KeyError."""
        for listener in self.listeners.values():
            if (listener.host, listener.port) == (host, port) and protocol in PROTOCOLS[listener.transport]:
                return listener
        raise KeyError(host, port, protocol)

    def own_zones(self) -> tuple[bytes, ...]:
        """Returns the zones that plugins answer from their own data, without the root zone."""
        zones = (zone for handler in self.handlers for zone in handler.own_zones)
        return tuple(zone for zone in dict.fromkeys(zones) if zone != names.ROOT)

    def unready(self) -> tuple[str, ...]:
        """Returns the sorted names of the plugins whose `ready` hook returns False."""
        return tuple(sorted({h.name for h in self.handlers if not self.hooks.call(h.name, False, h.ready)}))


def build(
    plans: Sequence[BlockPlan],
    hosts: Sequence[Sequence[Host]],
    load: Load,
    environment: MakeEnvironment,
    hooks: HookCaller,
    join: Join = link,
) -> Chains:
    """Builds the plugin chains of the planned blocks.

    `hosts` has the addresses of each block; `("",)` means all addresses. `join` links each plugin to the rest of its
    chain. Raises SvcdnsError if a plugin breaks the plugin contract, or if its instance cannot be made.
    """
    chains = Chains(hooks)
    for block_plan, block_hosts in zip(plans, hosts, strict=True):
        _build_block(chains, block_plan, block_hosts, load, environment, join)
    echoed = NO_CODES.union(*(handler.echoed_options for handler in chains.handlers))
    for listener in chains.listeners.values():
        count_for_samplers(listener)
        listener.echoed = echoed
        classifying = [handler for handler in listener.handlers if overrides(handler, "client_class")]
        if listener.candidates is not None:
            for route in listener.all_routes:
                listener.candidates.setdefault(route.zone, []).append(route)
                if route.fast_path is not None:
                    text = "a block of the same listener has view"
                    chains.slow_blocks.append((route.zone_text, text))
        listener.notified = tuple(
            hooks.wrapped(one.name, False, one.notified) for one in listener.handlers if overrides(one, "notified")
        )
        listener.tsig_secrets = tuple(
            hooks.wrapped(one.name, None, one.tsig_secret) for one in listener.handlers if overrides(one, "tsig_secret")
        )
        has_classes = bool(classifying) or listener.candidates is not None
        listener.classes = Classes(classifying) if has_classes else None
    return chains


def _build_block(
    chains: Chains, block: BlockPlan, hosts: Sequence[Host], load: Load, environment: MakeEnvironment, join: Join
) -> None:
    listen = tuple(dict.fromkeys((host, key.port) for key in block.keys for host in hosts))
    server = Listener(*listen[0], transport=block.keys[0].transport).server
    view = next((settings.view for settings in block.settings.values() if settings.view is not None), None)

    def surroundings(name: str, peers: Peers) -> Environment:
        made_for = environment(block.block(name), server, listen, name, peers)
        return replace(made_for, own_zones=chains.own_zones, view=view.name if view else "")

    made = _instances(block, load, surroundings)
    chains.handlers += [handler for handler, _ in made]
    with_options = [(handler, options) for handler, options in made if handler.in_chain]
    handlers = [handler for handler, _ in with_options]
    hooks, entry = chains.hooks, chain(handlers, join)
    counting = next((name for name, settings in block.settings.items() if settings.counts_queries), "")
    if entry is None and counting:
        entry = _end(counting)
    observers: tuple[Observer, ...] = tuple(
        hooks.wrapped(h.name, None, h.observe) for h in handlers if overrides(h, "observe")
    )
    taps = {key: guarded(handlers, key, hooks) for key in block.keys}
    packet_observers, observing, unobservable = _packet_observers(handlers, hooks, taps)
    counted = any(settings.counts_queries for settings in block.settings.values())
    any_class = any(settings.any_class for settings in block.settings.values())
    udp_size = next((s.udp_size for s in block.settings.values() if s.udp_size is not None), None)
    writer = _writer(block, handlers)
    limiter = next(
        (one for h in handlers if (one := hooks.call(h.name, None, h.rate_limiter)) is not None),
        None,
    )
    closest_encloser = None if packet_observers is None else _closest_encloser(handlers, hooks)
    cold_path = _cold_path(handlers, hooks, observing)
    fast_path, refusing = _fast_path(handlers, hooks, observing, unobservable)
    if refusing:
        shown = ", ".join(_with_place(name, block) for name in refusing)
        chains.slow_blocks.append((" ".join(block.zones), f"plugins that do not support it: {shown}"))
    labels = _zone_labels([h for h in handlers if overrides(h, "counted_zones")]) if counted else None
    providers, metadata_zones = _providers(block, handlers, hooks)
    sampler = sampler_of(block, handlers, load, hooks, join, _end)
    routes: list[Route] = []
    for key in block.keys:
        zone = names.from_text(key.zone).lower()
        route = Route(
            zone, key.zone, entry, counted, writer, view.name if view else "",
            observers + tuple(tap.observed for tap in taps[key] if tap.needs_query), closest_encloser, fast_path, any_class,
            udp_size or DEFAULT_SIZE, udp_size or MAX_MESSAGE, limiter, labels, cold_path,
            _condition(handlers, hooks) if view else None, providers, metadata_zones, packet_observers,
            next((s.tsig for s in block.settings.values() if s.tsig is not None), None), sampler, taps[key],
            packet_observers is not None and bool(packet_observers or taps[key]),
        )  # fmt: skip
        routes.append(route)
        for host in hosts:
            listener = chains.listeners.setdefault(
                (host, key.port, key.transport), Listener(host, key.port, key.transport)
            )
            _configure(listener, block, key.transport)
            listener.routes.setdefault(zone, route)
            listener.all_routes.append(route)
            if fast_path is not None:
                listener.inner += tuple(one for one in fast_path.zones if one not in listener.inner)
            listener.handlers += [handler for handler in handlers if handler not in listener.handlers]
            listener.any_class = listener.any_class or any_class
            listener.counted = listener.counted or counted
            listener.observed = listener.observed or packet_observers is None
            listener.packets_observed = listener.packets_observed or route.observes_packets
            listener.limiter = listener.limiter or limiter
    chains.blocks.append(BuiltBlock(block.keys, listen, tuple(with_options), tuple(routes)))


def _instances(
    block: BlockPlan, load: Load, surroundings: Callable[[str, Peers], Environment]
) -> list[tuple[Plugin, object]]:
    """Returns the plugin instances of a block with their options, in the order of the chain."""
    made: list[tuple[Plugin, object]] = []

    def peers(name: str) -> tuple[Plugin, ...]:
        return tuple(handler for handler, _ in made if handler.in_chain and name in ("", handler.name))

    for name, options in block.options.items():
        plugin = load(name).PLUGIN
        check_plugin(plugin)
        if plugin.has_handler(options):
            made.append((_made(plugin, options, surroundings(name, peers)), options))
    return made


def _configure(listener: Listener, block: BlockPlan, transport: str) -> None:
    """Applies the settings of a block to a listener. The settings of later blocks replace those of earlier ones."""
    for settings in block.settings.values():
        if settings.timeouts is not None:
            listener.timeouts = settings.timeouts
        if settings.proxy is not None:
            listener.proxy = settings.proxy
        if settings.certificate is not None and transport != "dns":
            listener.security = settings.certificate
        listener.sheds = listener.sheds or settings.sheds
        listener.records_traffic = listener.records_traffic or settings.records_traffic
        if settings.limits is not None and settings.limits.transport == transport:
            listener.limits = settings.limits
        if settings.view is not None:
            listener.candidates = {}
            reads_local_address = settings.view.reads_local_address and not listener.host
            listener.stores = listener.stores and not (settings.view.is_per_packet or reads_local_address)


def _condition(handlers: Sequence[Plugin], hooks: HookCaller) -> Callable[[Query], bool]:
    """Returns a function that tells whether the block's view admits a query."""
    conditions = [hooks.wrapped(h.name, False, h.admits) for h in handlers if overrides(h, "admits")]
    return lambda query: all(admits(query) for admits in conditions)


def _providers(
    block: BlockPlan, handlers: Sequence[Plugin], hooks: HookCaller
) -> tuple[Mapping[str, Provider] | None, tuple[bytes, ...]]:
    """Returns the hooks that provide metadata, by plugin, and the zones whose queries have metadata.

    The hooks are None if the block has no metadata.
    """
    zones = next((settings.metadata for settings in block.settings.values() if settings.metadata is not None), None)
    if zones is None:
        return None, ()
    providers: dict[str, Provider] = {}
    for h in handlers:
        if overrides(h, "metadata"):
            hook = hooks.wrapped(h.name, "", h.metadata)
            for name in (h.name, *h.metadata_names):
                providers[name] = _first_value(providers[name], hook) if name in providers else hook
    return providers, tuple(names.from_text(zone).lower() for zone in zones)


def _first_value(one: Provider, other: Provider) -> Provider:
    return lambda query, label: one(query, label) or other(query, label)


def _zone_labels(handlers: Sequence[Plugin]) -> ZoneLabels | None:
    """Returns the zones that have their own label in the metrics, or None if no plugin has such zones."""
    if not handlers:
        return None
    return ZoneLabels(lambda: frozenset().union(*(handler.counted_zones for handler in handlers)))


def _made(plugin: type[Plugin], options: object, environment: Environment) -> Plugin:
    """Makes an instance of a plugin. An exception of the plugin becomes a SvcdnsError.

    With the directive `debug`, the traceback is logged.
    """
    try:
        made = plugin(options, environment if plugin.states_reuse or plugin.reads_nothing else environment.recording())
    except SvcdnsError:
        raise
    except Exception as error:
        log.debug(LogLine("a plugin's __init__ failed", plugin=plugin.name), exc_info=error)
        raise HookError(_position(environment.block), plugin.name, "__init__", error) from error
    check_names(made, getattr(made, "__dict__", ()))
    return made


def _position(block: Block) -> Position:
    """Returns the position of the plugin's directive, or of any directive if the block has none (hook `share`)."""
    return (block.directives or block.others)[0].position


def _writer(block: BlockPlan, handlers: Sequence[Plugin]) -> str:
    """Returns the label `plugin` of the block's responses in the metrics.

    As in CoreDNS, the label is the name of the first plugin after *prometheus*.
    """
    directives = list(block.settings)
    counting = next(
        (at for at, settings in enumerate(block.settings.values()) if settings.counts_queries), len(directives)
    )
    return next((h.name for h in handlers if h.name in directives[counting + 1 :]), "")


def _closest_encloser(handlers: Sequence[Plugin], hooks: HookCaller) -> FindEncloser | None:
    """Returns the function that finds closest enclosers for the block, or None.

    The function is the hook of the first plugin that has `closest_encloser`. The function covers only zones for which
    the hook `name_independent` of all earlier plugins returns True.
    """
    for number, handler in enumerate(handlers):
        if overrides(handler, "closest_encloser"):
            before = handlers[:number]
            zones = frozenset(
                zone
                for zone in handler.zones
                if all(hooks.call(one.name, False, one.name_independent, zone) for one in before)
            )
            find = hooks.wrapped(handler.name, None, handler.closest_encloser)
            return find if len(zones) == len(handler.zones) else _within(zones, find) if zones else None
    return None


def _packet_observers(
    handlers: Sequence[Plugin], hooks: HookCaller, taps: Mapping[ServerKey, Sequence[Tap]]
) -> tuple[tuple[PacketObserver, ...] | None, Collection[str], Collection[str]]:
    """Returns the packet observers of the block, and no names.

    Returns None if a plugin observes queries and has no packet observer. The names are then those of the plugins that
    observe queries, and those of the plugins without a packet observer. Also returns None if a tap needs query objects.
    """
    found: list[PacketObserver] = []
    without: set[str] = set()
    observing = [handler for handler in handlers if overrides(handler, "observe")]
    for handler in observing:
        observer = hooks.call(handler.name, None, handler.packet_observer)
        if observer is None:
            without.add(handler.name)
        else:
            found.append(hooks.wrapped(handler.name, None, observer))
    if without:
        return None, {one.name for one in observing}, without
    needs_query = any(tap.needs_query for one in taps.values() for tap in one)
    return None if needs_query else tuple(found), (), ()


def _fast_path(
    handlers: Sequence[Plugin], hooks: HookCaller, observing: Collection[str], unobservable: Collection[str]
) -> tuple[FastPath | None, list[str]]:
    """Returns the fast path (forwarding without the plugin chain) of the block and no names.

    If the block has no fast path, returns None and the names of the plugins that prevent it, in chain order. There are
    no names if the block forwards no queries. `observing` has the names of the plugins that need an object of each
    query, and `unobservable` those of them because of which the objects are needed.
    """
    fast_path = FastPath()
    refusing = [
        handler.name
        for handler in reversed(handlers)
        if not hooks.call(handler.name, False, handler.join_fast_path, fast_path) or handler.name in unobservable
    ]
    if refusing or observing:
        return None, refusing[::-1] if fast_path.forwards else []
    return (None if fast_path.ask is None else fast_path), []


def _with_place(name: str, block: BlockPlan) -> str:
    """Returns the name of a plugin, with FILE:LINE of its directive in brackets if it has one."""
    directives = block.block(name).directives
    return f"{name} ({directives[0].position.file}:{directives[0].position.line})" if directives else name


def _cold_path(handlers: Sequence[Plugin], hooks: HookCaller, observing: Collection[str]) -> ColdPath | None:
    """Returns the block's cold path (replies for cluster names without the plugin chain), or None if it has none.

    `observing` has the names of the plugins that need an object of each query.
    """
    joined: ColdPath | None = None
    for handler in reversed(handlers):
        cold_path = joined or ColdPath()
        joins = hooks.call(handler.name, False, handler.join_cold_path, cold_path) and handler.name not in observing
        joined = cold_path if joins and cold_path.source is not None else None
    return joined


def _within(zones: frozenset[bytes], closest_encloser: FindEncloser) -> FindEncloser:
    def find(key: bytes, rtype: int) -> Encloser | None:
        found = closest_encloser(key, rtype)
        return found if found is not None and any(names.is_within(found.key, zone) for zone in zones) else None

    return find


def chain(handlers: Sequence[Plugin], join: Join = link) -> Following | None:
    """Links the handlers into one function, which passes each query to the first handler. Returns None if there are
    none.

    A query that passes the last handler gets SERVFAIL.
    """
    if not handlers:
        return None
    following = _end(handlers[-1].name)
    for handler in reversed(handlers):
        following = join(handler, following)
    return following


def _end(name: str) -> Following:
    reply = rcode_only(Rcode.SERVFAIL, f"plugin/{name}: no next plugin found")

    def answer(_query: Query) -> Answer:
        return reply

    return answer
