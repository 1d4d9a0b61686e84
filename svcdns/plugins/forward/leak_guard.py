"""The leak guard: counts or blocks queries for cluster names and names of one label, which should not leave the
cluster.

Rules: a name is not blocked if the zone of a server block, or FROM, lies in the same cluster zone. Queries of the types
that a validating resolver sends from the root downwards are not blocked.
"""

from __future__ import annotations

from typing import Final

from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.forward.options import Rule
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.wire import names
from svcdns.wire.codes import ExtendedError, Rcode, Type

LEAKED: Final = Family(
    "svcdns_forward_leaked_total",
    MetricKind.COUNTER,
    "Queries to be forwarded whose names should not leave the cluster.",
    ("server", "kind", "action"),
)

CLUSTER_DOMAIN: Final = names.from_text("cluster.local.")
"""The default cluster domain of Kubernetes."""
RESOLVER_TYPES: Final = frozenset({Type.NS, Type.SOA, Type.DS, Type.DNSKEY})


class LeakGuard:
    """Counts or blocks the queries of one forward rule that should not leave the cluster."""

    def __init__(self, rule: Rule, environment: Environment) -> None:
        self._mode, self._counters = rule.leak_guard, environment.counters
        self._source = names.from_text(rule.zone).lower()
        zones = tuple(names.from_text(zone).lower() for zone in rule.cluster_zones)
        self._zones = tuple(zone for zone in zones if not names.is_within(self._source, zone))

    @property
    def zones(self) -> tuple[bytes, ...]:
        """Returns the zones whose names only `stopped` can check, besides names of one label.

        Queries for other names may be forwarded without a call of `stopped`, after a call of `note` if `notes` is true.
        """
        if self._mode == "off":
            return ()
        return self._zones if self._mode == "count" else (*self._zones, CLUSTER_DOMAIN)

    @property
    def notes(self) -> bool:
        """Returns True if names that are in none of `zones` may be counted."""
        covered = any(names.is_within(CLUSTER_DOMAIN, zone) for zone in self._zones)
        return self._mode == "count" and not covered and not names.is_within(self._source, CLUSTER_DOMAIN)

    def note(self, key: bytes, zone: bytes, server: str) -> None:
        """Counts a query that is forwarded without a call of `stopped`, if its name should not leave the cluster.

        `key` is the lower-case name, `zone` the server block's zone, and `server` the label of the listener.
        """
        if names.is_within(key, CLUSTER_DOMAIN) and not names.is_within(zone, CLUSTER_DOMAIN):
            self._counters.count(LEAKED, server, "cluster", "forwarded")

    def stopped(self, query: Query) -> Reply | None:
        """Returns NXDOMAIN if the option `leak_guard` blocks the query, otherwise None.

        Unless the guard is off, counts each query that should not leave the cluster.
        """
        if self._mode == "off":
            return None
        kind = self._kind(query)
        if not kind:
            return None
        blocked = self._mode == "block"
        self._counters.count(LEAKED, query.server, kind, "blocked" if blocked else "forwarded")
        return Reply(Rcode.NXDOMAIN, query.reply_flags, extended=ExtendedError.BLOCKED) if blocked else None

    def _kind(self, query: Query) -> str:
        """Returns the metric's label: `cluster` for a cluster name, `single_label` for a name of one label, otherwise
        an empty text.
        """
        key = query.key
        for zone in self._zones:
            if names.is_within(key, zone):
                return "cluster"
        if self._is_unrelated(query, CLUSTER_DOMAIN) and names.is_within(key, CLUSTER_DOMAIN):
            return "cluster"
        single = len(key) > 1 and key[0] + 2 == len(key)
        if single and self._source == query.zone == names.ROOT and query.rtype not in RESOLVER_TYPES:
            return "single_label"
        return ""

    def _is_unrelated(self, query: Query, zone: bytes) -> bool:
        """Returns True if neither the server block's zone nor the rule's FROM lies within `zone`."""
        return not names.is_within(query.zone, zone) and not names.is_within(self._source, zone)
