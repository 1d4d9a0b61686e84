"""Finds the routes whose stored replies stay valid when a reload replaces the plugin chains.

A route is one zone of a server block on a listener. Rules:

1. The replies of a route stay if its plugins have equal options, and each plugin agrees (`Plugin.answers_like`).
2. If only later plugins of the chain differ, replies stay in the zones that an earlier plugin answers completely
   (`Plugin.complete_zones`).
3. No reply of a listener stays if replies may depend on the client, or if a block limits the rate of replies, or
   observes queries without a packet observer.
4. A new server block may take names from a kept route. This module does not find them: `svcdns.serving.kept_replies`
   checks the route of each name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from svcdns.chain.build import BuiltBlock, Chains, ListenerKey
from svcdns.chain.routing import Listener, Route
from svcdns.plugin_api.contract import Plugin


class KeptRoute(NamedTuple):
    """The route of the new plugin chains that replaces a route, and the zones whose stored replies stay.

    If `zones` is None, the replies of all names stay.
    """

    route: Route
    zones: tuple[bytes, ...] | None


class KeptRoutes(NamedTuple):
    """The kept routes of one listener, by the `id` of the old route.

    `all_stay` is True if all stored replies of the listener stay.
    """

    by_id: Mapping[int, KeptRoute]
    all_stay: bool


NONE_KEPT: Final = KeptRoutes({}, all_stay=False)


def kept_routes(old: Chains, new: Chains) -> dict[ListenerKey, KeptRoutes]:
    """Returns the kept routes of each listener that both plugin chains have."""
    by_route = {id(before): kept for before, kept in _pairs(old, new)}
    found = {}
    for where, listener in new.listeners.items():
        before = old.listeners.get(where)
        if before is not None and _is_like(before, listener):
            found[where] = _of_listener(before, listener, by_route)
    return found


def _of_listener(old: Listener, new: Listener, by_route: Mapping[int, KeptRoute]) -> KeptRoutes:
    kept = {
        id(route): by_route[id(route)]
        for zone, route in old.routes.items()
        if id(route) in by_route and new.routes.get(zone) is by_route[id(route)].route
    }
    complete = len(kept) == len(old.routes) == len(new.routes) and all(one.zones is None for one in kept.values())
    return KeptRoutes(kept, all_stay=complete)


def _pairs(old: Chains, new: Chains) -> Iterator[tuple[Route, KeptRoute]]:
    """Yields each old route with its successor, if some of its replies stay."""
    successors = {_identity(block): block for block in new.blocks}
    for block in old.blocks:
        successor = successors.get(_identity(block))
        if successor is None:
            continue
        zones = _kept_zones(block, successor, new)
        for before, after in zip(block.routes, successor.routes, strict=True):
            if zones != () and _is_same_route(before, after):
                yield before, KeptRoute(after, zones)


def _identity(block: BuiltBlock) -> tuple[object, ...]:
    return tuple([(key.transport, key.zone, key.port) for key in block.keys]), block.listen


def _kept_zones(old: BuiltBlock, new: BuiltBlock, chains: Chains) -> tuple[bytes, ...] | None:
    """Returns the zones of a block whose stored replies stay, or None if all replies stay."""
    complete: tuple[bytes, ...] = ()
    for (before, before_options), (after, after_options) in zip(old.handlers, new.handlers, strict=False):
        if before.name != after.name or not chains.hooks.call(
            after.name, False, _answers_like, after, after_options, before, before_options
        ):
            return complete
        complete += tuple(after.complete_zones)
    return None if len(old.handlers) == len(new.handlers) else complete


def _answers_like(new: Plugin, new_options: object, old: Plugin, old_options: object) -> bool:
    return bool(new_options == old_options) and new.answers_like(old)


def _is_same_route(old: Route, new: Route) -> bool:
    return _terms(old) == _terms(new) and all(_is_plain(route) for route in (old, new))


def _terms(route: Route) -> tuple[object, ...]:
    """Returns the properties of a route, without its plugins, that replies and their metrics depend on."""
    return route.zone_text, route.counted, route.writer, route.any_class, route.udp_size, route.udp_limit


def _is_plain(route: Route) -> bool:
    """Returns True if stored replies of a route need no object of its plugin chain, such as a rate limiter."""
    return (
        route.entry is not None
        and not route.view
        and route.packet_observers is not None
        and (route.limiter, route.labels, route.admits, route.providers) == (None, None, None, None)
    )


def _is_like(old: Listener, new: Listener) -> bool:
    """Returns True if replies of neither listener depend on the client, are limited in rate, or must be observed."""
    return (old.transport, old.any_class, old.echoed) == (new.transport, new.any_class, new.echoed) and not any(
        listener.classes or listener.candidates is not None or listener.proxy or listener.limiter or listener.observed
        for listener in (old, new)
    )
