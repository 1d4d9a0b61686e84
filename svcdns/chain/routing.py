"""Chooses the plugin chain that answers a query: by the longest zone of the listener that contains the query name.

A listener is a port on one address or on all addresses. A listener serves the zones of all blocks with this port and
address. Queries for names in no zone get REFUSED here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from msgspec.structs import replace as replace_fields

from svcdns.chain.client_classes import Classes
from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.closest_encloser import FindEncloser
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.metadata import Metadata, Provider
from svcdns.plugin_api.query import MAX_DEPTH, Answer, Observer, PacketObserver, Query
from svcdns.plugin_api.rate_limit import RateLimiter
from svcdns.plugin_api.reply import CacheScope, Reply, rcode_only
from svcdns.plugin_api.settings import NO_LIMITS, ProxyProtocol, TransportLimits
from svcdns.plugin_api.tap import Tap
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.plugin_api.tracing import Sampler
from svcdns.plugin_api.tsig import TsigRules
from svcdns.wire.codes import Class, Rcode, Type
from svcdns.wire.edns import DEFAULT_SIZE, NO_CODES
from svcdns.wire.names import ROOT, is_within, suffixes, to_text


@dataclass(frozen=True, slots=True)
class Route:
    """One zone of a server block on a listener.

    - `entry` is the block's plugin chain, or None if the block has no plugins that handle queries.
    - `counted` is true if queries are counted in `coredns_dns_*`. `writer` is the label `plugin` of the responses.
      `labels` finds the label `zone`, if it is not always this zone.
    - `closest_encloser` finds the closest encloser of a nonexistent name. The field is None if negative answers may
      differ.
    - `fast_path` is the fast path of the block, or None. `cold_path` is the cold path of the block, or None.
    - `observers` are called with the query and the reply. `packet_observers` are called in place of them for replies
      that are made without the chain, or are None if one of the observers needs the objects.
    - `taps` get the packets of all queries and replies. `observes_packets` is true if `packet_observers` or `taps` are
      called for replies that are made without the chain.
    - `any_class` is true if the block answers queries of classes other than IN.
    - `udp_size` is the UDP payload size that replies advertise. `udp_limit` limits the length of replies over UDP.
    - `limiter` limits the rate of replies over UDP, or is None.
    - `admits` is the condition of the block's view, or None.
    - `tsig` has the rules for signed queries, or is None.
    - `providers` are the hooks that provide metadata, for queries in `metadata_zones`, or None.
    - `sampler` chooses the queries that are traced, or is None.
    """

    zone: bytes
    zone_text: str
    entry: Following | None
    counted: bool = False
    writer: str = ""
    view: str = ""
    observers: tuple[Observer, ...] = ()
    closest_encloser: FindEncloser | None = None
    fast_path: FastPath | None = None
    any_class: bool = False
    udp_size: int = DEFAULT_SIZE
    udp_limit: int = 65535
    limiter: RateLimiter | None = None
    labels: ZoneLabels | None = None
    cold_path: ColdPath | None = None
    admits: Callable[[Query], bool] | None = None
    providers: Mapping[str, Provider] | None = None
    metadata_zones: tuple[bytes, ...] = ()
    packet_observers: tuple[PacketObserver, ...] | None = ()
    tsig: TsigRules | None = None
    sampler: Sampler | None = None
    taps: tuple[Tap, ...] = ()
    observes_packets: bool = False

    def collect(self, query: Query) -> None:
        """Gives the query its metadata, or none if the block has no metadata for its name."""
        query.collected = None
        if self.providers is not None and any(is_within(query.key, zone) for zone in self.metadata_zones):
            query.collected = Metadata(self.providers, query)


class ZoneLabels:
    """The zones inside a block's zone that have their own label `zone` in the metrics (`Plugin.counted_zones`)."""

    __slots__ = ("_routes", "_zones")

    def __init__(self, zones: Callable[[], Collection[bytes]]) -> None:
        """`zones` returns the zones, as lower-case names in wire format."""
        self._zones = zones
        self._routes: dict[tuple[bytes, bytes], Route] = {}

    def route(self, route: Route, key: bytes) -> Route:
        """Returns `route` with the label of the longest zone that contains the name `key`."""
        zones = self._zones()
        for suffix in suffixes(key):
            if suffix == route.zone:
                break
            if suffix in zones:
                found = self._routes.get((route.zone, suffix))
                if found is None:
                    found = self._routes[route.zone, suffix] = replace(route, zone_text=to_text(suffix))
                return found
        return route


CONFIGURATION: Final[Dependency] = ("configuration",)
"""The dependency of stored replies in which other server blocks may have taken part. Any reload drops these replies."""

DROPPED = Route(ROOT, "dropped", None)
"""The route of queries that are refused before any chain; metrics use its zone as the label."""


@dataclass(slots=True)
class Listener:
    """The zones that are served at one host and port. An empty host means every address.

    `transport` is `dns` for UDP and TCP, or another transport of `corefile.transports`. `security` is the key of the
    certificate, or empty for a listener without TLS.
    """

    host: str
    port: int
    transport: str = "dns"
    timeouts: Timeouts = field(default_factory=Timeouts)
    security: str = ""
    proxy: ProxyProtocol | None = None
    """The PROXY protocol of the listener; None for none."""
    sheds: bool = False
    """True if the listener's UDP sockets keep replies that the kernel does not take (plugin *shed*)."""
    records_traffic: bool = False
    """True if the listener's UDP readers write samples of queries to shared memory (plugin *traffic*)."""
    limits: TransportLimits = NO_LIMITS
    """The limits that the plugin of the transport configures, for example *https*."""
    routes: dict[bytes, Route] = field(default_factory=dict)
    any_class: bool = False
    counted: bool = False
    observed: bool = False
    """True if a plugin needs an object of each query and of each reply (`Plugin.observe`)."""
    packets_observed: bool = False
    """True if a plugin needs the packets of each query and of each reply (`Plugin.packet_observer`, `Plugin.taps`)."""
    limiter: RateLimiter | None = None
    """Limits the rate of error replies to packets that belong to no server block. It is the limiter of a block."""
    echoed: frozenset[int] = NO_CODES
    """The codes of EDNS options that replies copy from queries, because a plugin asks for that."""
    inner: tuple[bytes, ...] = ()
    """Queries for names that end with one of these lower-case wire names never take the fast path of any block."""
    handlers: list[Plugin] = field(default_factory=list)
    classes: Classes | None = None
    """The client classes of the listener; None if no plugin of its blocks has client classes."""
    candidates: dict[bytes, list[Route]] | None = None
    """By zone: the routes of all blocks with the zone, in the order of the Corefile. None if no block has a view."""
    all_routes: list[Route] = field(default_factory=list)
    """The routes of all blocks and zones, in the order of the Corefile."""
    notified: tuple[Callable[[bytes, str], bool], ...] = ()
    """The hooks `Plugin.notified` of the plugins that accept NOTIFY messages."""
    self_queries: int = 0
    """The number of queries that plugins have sent to this server."""
    tsig_secrets: tuple[Callable[[bytes], bytes | None], ...] = ()
    """The hooks `Plugin.tsig_secret` of the blocks. Empty if no block has the plugin *tsig*."""
    stores: bool = True
    """False if no reply may be stored, because a view reads values that differ between equal packets of a client.

    Also False if a listener with views has a sampler, because only the plugin chain can count the queries of a block.
    """
    sampled: bool = False
    """True if a block of the listener has a sampler (plugin *trace*), which counts all queries of the block."""

    @property
    def server(self) -> str:
        """Returns the server label of metrics: `dns://:53`, `dns://127.0.0.1:53`, `tls://[::1]:853`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}://{host}:{self.port}"

    def find(self, key: bytes, rtype: int) -> Route | None:
        """Returns the route (zone and plugin chain) for a name in wire format and lower case, or None.

        As in CoreDNS, the route of a DS query is the shortest matching zone below the root.
        """
        at, routes = 0, self.routes
        above = None
        while key[at]:
            route = routes.get(key[at:])
            if route is not None:
                if rtype != Type.DS or route.entry is None:
                    return route
                above = route
            at += 1 + key[at]
        return above or routes.get(ROOT)

    def _find_by_view(self, query: Query) -> Route | None:
        """Returns the route of a query on a listener with views, or None.

        The blocks of a zone are tried in the order of the Corefile. If none of them admits the query, the next shorter
        zone is tried, as in CoreDNS. A block without plugins refuses the query, except for the root zone.
        """
        assert self.candidates is not None
        above = None
        for zone in suffixes(query.key):
            for route in self.candidates.get(zone, ()):
                if route.entry is None:
                    if zone == ROOT:
                        continue
                    return route
                route.collect(query)
                if route.admits is None or route.admits(query):
                    if query.rtype != Type.DS or zone == ROOT:
                        return above or route
                    above = route
        return above

    def is_divided(self, key: bytes) -> bool:
        """Returns True if a name below `key` (wire format, lower case) has another zone or plugin chain than `key`."""
        return any(zone != key and is_within(zone, key) for zone in self.routes)

    def route(self, query: Query) -> Route:
        """Returns the route (zone and plugin chain) of a query.

        Returns DROPPED if the server must answer REFUSED without calling a plugin.
        """
        if query.rclass != Class.IN and not self.any_class:
            return DROPPED
        found = self.find(query.key, query.rtype) if self.candidates is None else self._find_by_view(query)
        if found is None or found.entry is None or (query.rclass != Class.IN and not found.any_class):
            return DROPPED
        return found if found.labels is None else found.labels.route(found, query.key)

    def ask(self, query: Query) -> Answer:
        """Answers a self-query: a query that a plugin sends to this server."""
        self.self_queries += 1
        if query.depth > MAX_DEPTH:
            return rcode_only(Rcode.SERVFAIL, "too many levels of self-queries")
        answer = self.answer(query, self.route(query))
        return answer if self.candidates is None else then(answer, self._for_this_view)

    def _for_this_view(self, reply: Reply) -> Reply:
        """Limits a reply to the clients for which the views choose the same server block."""
        scope = CacheScope.CLIENT_CLASS if self.stores else CacheScope.CLIENT
        return replace_fields(reply, scope=max(reply.scope, scope))

    def answer(self, query: Query, route: Route) -> Answer:
        """Passes the query to the plugin chain of `route`, and returns the answer."""
        if route.entry is None:
            return rcode_only(Rcode.REFUSED)
        query.zone = route.zone
        query.listener = self.server
        query.view = route.view
        if route.providers is not None or query.collected is not None:
            route.collect(query)
        query.ask_server = self.ask
        return route.entry(query)
