"""The server's metrics of queries (docs/behaviour/server.md#metrics-of-queries), without the metrics of plugins.

A reply of the plugin chain is counted when it is sent. An entry of the answer table has a tuple of increments: the
counters that a use of the entry increases, and the amounts. The increments are added for all uses together when the
metrics are flushed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from svcdns.chain.kept_routes import KeptRoute
from svcdns.chain.routing import DROPPED, Route
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Increment, Reply
from svcdns.telemetry.counters import Counters, Family, MetricKind
from svcdns.wire.codes import Type, rcode_label, type_text

DURATIONS: Final = tuple(0.00025 * 2**i for i in range(16))
_SHORTEST: Final = DURATIONS[0]
SIZES: Final = (
    0.0,
    100.0,
    200.0,
    300.0,
    400.0,
    511.0,
    1023.0,
    2047.0,
    4095.0,
    8291.0,
    16000.0,
    32000.0,
    48000.0,
    64000.0,
)

REQUESTS: Final = Family(
    "coredns_dns_requests_total",
    MetricKind.COUNTER,
    "Counter of DNS requests made per zone, protocol and family.",
    ("server", "zone", "view", "proto", "family", "type"),
)
DURATION: Final = Family(
    "coredns_dns_request_duration_seconds",
    MetricKind.HISTOGRAM,
    "Histogram of the time (in seconds) each request took per zone.",
    ("server", "zone", "view"),
    DURATIONS,
)
REQUEST_SIZE: Final = Family(
    "coredns_dns_request_size_bytes",
    MetricKind.HISTOGRAM,
    "Size of the requests in bytes.",
    ("server", "zone", "view", "proto"),
    SIZES,
)
RESPONSE_SIZE: Final = Family(
    "coredns_dns_response_size_bytes",
    MetricKind.HISTOGRAM,
    "Size of the returned responses in bytes.",
    ("server", "zone", "view", "proto"),
    SIZES,
)
DO_REQUESTS: Final = Family(
    "coredns_dns_do_requests_total",
    MetricKind.COUNTER,
    "Counter of DNS requests with the DO bit set per zone.",
    ("server", "zone", "view"),
)
RESPONSES: Final = Family(
    "coredns_dns_responses_total",
    MetricKind.COUNTER,
    "Counter of response status codes.",
    ("server", "zone", "view", "rcode", "plugin"),
)
TABLE_HITS: Final = Family(
    "svcdns_answer_table_hits_total",
    MetricKind.COUNTER,
    "Replies that came from the answer table, without the plugin chain.",
    ("server",),
)

SHED: Final = Family(
    "svcdns_shed_total",
    MetricKind.COUNTER,
    "Queries over UDP, and connections, that were given up under overload, by reason.",
    ("server", "reason"),
)
MALFORMED: Final = Family(
    "svcdns_malformed_queries_total",
    MetricKind.COUNTER,
    "Packets that are no well-formed queries, by reason.",
    ("server", "proto", "reason"),
)
TRAILING: Final = "trailing"
"""The reason of a query that is answered although octets follow the message."""

MAX_HIT_COUNTERS: Final = 8192
MAX_LIMITED_ORIGINS: Final = 64
"""The most origins whose replies stay in some zones only. Above this number, the oldest origins lose all replies."""

_LABELLED: Final = {
    t: type_text(t)
    for t in (
        Type.AAAA, Type.A, Type.CNAME, Type.DNSKEY, Type.DS, Type.MX, Type.NSEC3, Type.NSEC, Type.NS, Type.PTR, Type.RRSIG, Type.SOA,
        Type.SRV, Type.TXT, Type.HTTPS, Type.SVCB, Type.IXFR, Type.AXFR, Type.ANY,
    )
}  # fmt: skip


class ShedReason(StrEnum):
    """The reason why the server dropped a query or closed a connection under overload
    (docs/reliability.md#overload).
    """

    QUEUE = "queue"
    """Too many queries waited for a reply over UDP; the client had the most of them."""
    FLOOD = "flood"
    """A socket's queue stayed filled; the kernel dropped packets of the busiest clients, or they lost connections."""
    CONNECTIONS = "connections"
    """Too many connections were open; the client had the most of them."""
    HANDSHAKES = "handshakes"
    """Too many TLS handshakes were in progress; the client had the most of them."""
    SLOW_QUERY = "slow_query"
    """A query over TCP or TLS did not arrive completely in time."""
    UNREAD = "unread"
    """The client did not read its replies over TCP or TLS."""
    MISUSE = "misuse"
    """The client sent frames of HTTP/2 or QUIC that cost the server much and ask nothing, such as resets."""


class Durations:
    """Durations of replies that are not in the metrics yet.

    `buckets` has the number of replies for each bucket of the histogram. `seconds` is the sum of all durations.
    """

    def __init__(self) -> None:
        self.buckets = [0] * (len(DURATIONS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float, times: int) -> None:
        """Counts `times` replies, each with a duration of `seconds`."""
        self.buckets[0 if seconds <= _SHORTEST else bisect_left(DURATIONS, seconds)] += times
        self.seconds += seconds * times


class Origin:
    """The route that stored replies come from: a zone of a server block.

    A reload replaces the route by its successor. `zones` are the zones in which replies that were stored before the
    reload are still valid. None means all names, and an empty tuple means that no reply is valid.
    """

    __slots__ = ("route", "zones")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.zones: tuple[bytes, ...] | None = None

    def replace(self, kept: KeptRoute | None) -> None:
        """Replaces the route after a reload. Without `kept`, no stored reply of the route stays."""
        if kept is None:
            # only what the metrics need, so that the plugin chain is freed
            route = self.route
            self.route = Route(route.zone, route.zone_text, None, route.counted, route.writer, route.view)
            self.zones = ()
            return
        self.route = kept.route
        if kept.zones is not None:
            before = kept.zones if self.zones is None else self.zones
            self.zones = tuple([zone for zone in kept.zones if zone in before])


class HitCounter:
    """Counts uses of answer-table entries that have the same increments.

    `hits` is the number of uses, and `flushed` the part of them that is in the metrics. `increments` has the counters
    and amounts for one use. The uses are also counted in the duration histogram of the route of `origin`.
    `duration_cell` is the result of `QueryMetrics.duration_cell` for counters of the fast path, if their route is
    counted.
    """

    __slots__ = ("duration_cell", "flushed", "hits", "increments", "origin")

    def __init__(self, increments: tuple[Increment, ...], origin: Origin) -> None:
        self.increments, self.origin = increments, origin
        self.hits = self.flushed = 0
        self.duration_cell = -1

    def count(self, dirty: list[HitCounter]) -> None:
        """Counts one use. Appends this counter to `dirty` at the first use after a flush."""
        if self.hits == self.flushed:
            dirty.append(self)
        self.hits += 1


class QueryMetrics:
    """The server metrics of one listener, protocol and address family."""

    def __init__(self, counters: Counters, server: str, protocol: str, family: int) -> None:
        """`server` is the listener's label. `family` is 1 for IPv4 and 2 for IPv6."""
        self.counters, self._server, self._protocol, self._family = counters, server, protocol, str(family)
        self.family = family
        self._increments: dict[tuple[str, str, str, str, str, bool], tuple[Increment, ...]] = {}
        self._size_cells: dict[tuple[str, str], tuple[int, int]] = {}
        self._hit_counters: dict[tuple[Increment, ...], HitCounter] = {}
        self._duration_cells: dict[tuple[str, str], int] = {}
        self._origins: dict[int, Origin] = {}
        """The origin of each route of the present plugin chains, by the `id` of the route."""
        self._limited_origins: list[Origin] = []
        """Origins whose replies are valid in some zones only, because of an earlier reload."""
        self.dirty_cold: list[HitCounter] = []
        """Counters of replies of the cold path whose latest replies are not in the metrics yet."""

    def count_malformed(self, reason: str) -> None:
        """Counts a packet that is not a well-formed query. `reason` is TRAILING or the `reason` of a `Rejected`."""
        self.counters.count(MALFORMED, self._server, self._protocol, reason)

    def increments(self, query: Query, route: Route, reply: Reply) -> tuple[Increment, ...]:
        """Returns the counters that one reply increases, and the amounts, without the counters of size and duration."""
        return self.increments_of(
            route, query.rtype, reply.rcode, route.writer if reply.has_message else "", dnssec_ok=query.dnssec_ok
        )

    def increments_of(
        self, route: Route, rtype: int, rcode: int, writer: str, *, dnssec_ok: bool
    ) -> tuple[Increment, ...]:
        """Returns the same as `increments`, from the query type, the rcode and the DO bit.

        `writer` is the name of the plugin that made the reply, for the label `plugin`.
        """
        label, status = _LABELLED.get(rtype, "other"), rcode_label(rcode)
        key = (route.zone_text, route.view, label, status, writer, dnssec_ok)
        found = self._increments.get(key)
        if found is not None:
            return found
        where = (self._server, route.zone_text, route.view)
        cell = self.counters.cell
        requests = cell(REQUESTS, *where, self._protocol, self._family, label)
        responses = cell(RESPONSES, *where, status, writer)
        increments: tuple[Increment, ...] = ((requests, 1.0), (responses, 1.0))
        if dnssec_ok:
            increments += ((cell(DO_REQUESTS, *where), 1.0),)
        self._increments[key] = increments
        return increments

    def sizes(self, route: Route, request: int, response: int) -> tuple[Increment, ...]:
        """Returns the increments of the size counters for one request and its response. Sizes are in octets."""
        cells = self._size_cells.get((route.zone_text, route.view))
        if cells is None:
            where = (self._server, route.zone_text, route.view, self._protocol)
            cells = self.counters.cell(REQUEST_SIZE, *where), self.counters.cell(RESPONSE_SIZE, *where)
            self._size_cells[route.zone_text, route.view] = cells
        first, second = cells
        return (
            (first + bisect_left(SIZES, request), 1.0),
            (first + len(SIZES) + 1, float(request)),
            (second + bisect_left(SIZES, response), 1.0),
            (second + len(SIZES) + 1, float(response)),
        )

    def hit_counter(self, increments: tuple[Increment, ...], route: Route) -> HitCounter:
        """Returns the counter that all answer-table entries with these `increments` and this `route` share."""
        found = self._hit_counters.get(increments)
        if found is None or found.origin.route is not route or found.origin.zones is not None:
            if len(self._hit_counters) >= MAX_HIT_COUNTERS:
                self._hit_counters.clear()
            found = self._hit_counters[increments] = HitCounter(increments, self.origin(route))
        return found

    def origin(self, route: Route) -> Origin:
        """Returns the origin of replies of `route` (a zone of a server block) that are stored from now on."""
        found = self._origins.get(id(route))
        if found is None:
            found = self._origins[id(route)] = Origin(route)
        return found

    def replace_routes(self, kept: Mapping[int, KeptRoute]) -> None:
        """Replaces all routes after a reload, so that replaced plugin chains can be freed.

        `kept` has the routes whose stored replies stay, by the `id` of the old route. Hit counters of stored replies
        stay valid.
        """
        origins = [*self._limited_origins, *self._origins.values()]
        self._origins, limited = {}, []
        for origin in origins:
            origin.replace(kept.get(id(origin.route)))
            if origin.zones is None:
                self._origins[id(origin.route)] = origin
            elif origin.zones:
                limited.append(origin)
        for origin in limited[:-MAX_LIMITED_ORIGINS]:
            origin.replace(None)
        self._limited_origins = limited[-MAX_LIMITED_ORIGINS:]
        self._hit_counters = {
            key: counter for key, counter in self._hit_counters.items() if counter.origin.zones is None
        }

    def duration_cell(self, route: Route) -> int:
        """Returns the number of the counter for the first bucket of the route's duration histogram."""
        key = (route.zone_text, route.view)
        cell = self._duration_cells.get(key)
        if cell is None:
            cell = self._duration_cells[key] = self.counters.cell(DURATION, self._server, *key)
        return cell

    def add(self, increments: tuple[Increment, ...], times: int = 1) -> None:
        """Adds `increments` (pairs of counter and amount) to the metrics, `times` times."""
        values = self.counters.values
        for cell, amount in increments:
            values[cell] += amount * times

    def count_table_hits(self, hits: int) -> None:
        """Counts replies that came from the answer table. Called once a second with the number since the last call."""
        self.counters.count(TABLE_HITS, self._server, amount=hits)

    def observe_duration(self, route: Route, seconds: float, times: int = 1) -> None:
        """Adds `times` replies that took `seconds` each to the duration histogram of `route` (a zone of a server
        block).
        """
        cell = self.duration_cell(route)
        values = self.counters.values
        values[cell + bisect_left(DURATIONS, seconds)] += times
        values[cell + len(DURATIONS) + 1] += seconds * times


def is_counted(route: Route) -> bool:
    """Returns True if the server's metrics count queries for `route` (a zone of a server block).

    This is the case if the block has the directive `prometheus`. Queries that are refused before they reach a plugin
    chain are also counted.
    """
    return route.counted or route is DROPPED
