"""Names that should not leave: those of the cluster, and names of one label; they are counted on their way to an upstream, or stopped.

They come of search lists, of a cluster domain that clients and server spell differently, or of a missing `kubernetes` line; they tell
outsiders what runs in the cluster, and are answered by whoever likes to. Rules: what a server block or FROM names explicitly is no
leak; neither are the types by which a validating resolver walks down from the root.
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
    "Questions for names that should not leave, which came to be forwarded.",
    ("server", "kind", "action"),
)

CLUSTER_DOMAIN: Final = names.from_text("cluster.local.")
"""What clusters are called where nobody gave them another name."""
OF_RESOLVERS: Final = frozenset({Type.NS, Type.SOA, Type.DS, Type.DNSKEY})


class LeakGuard:
    """Watches over one `forward` line."""

    def __init__(self, rule: Rule, environment: Environment) -> None:
        """Counts into the environment's counters."""
        self._mode, self._counters = rule.leak_guard, environment.counters
        self._source = names.from_text(rule.zone).lower()
        zones = tuple(names.from_text(zone).lower() for zone in rule.cluster_zones)
        self._zones = tuple(zone for zone in zones if not names.is_within(self._source, zone))

    @property
    def zones(self) -> tuple[bytes, ...]:
        """Names of one label aside, only those that lie in these may be stopped or counted."""
        return () if self._mode == "off" else (*self._zones, CLUSTER_DOMAIN)

    def stopped(self, query: Query) -> Reply | None:
        """The answer to a name that must not leave; None for one that may."""
        if self._mode == "off":
            return None
        kind = self._kind(query)
        if not kind:
            return None
        blocked = self._mode == "block"
        self._counters.count(LEAKED, query.server, kind, "blocked" if blocked else "forwarded")
        return Reply(Rcode.NXDOMAIN, query.reply_flags, extended=ExtendedError.BLOCKED) if blocked else None

    def _kind(self, query: Query) -> str:
        key = query.key
        for zone in self._zones:
            if names.is_within(key, zone):
                return "cluster"
        if self._is_foreign(query, CLUSTER_DOMAIN) and names.is_within(key, CLUSTER_DOMAIN):
            return "cluster"
        single = len(key) > 1 and key[0] + 2 == len(key)
        if single and self._source == query.zone == names.ROOT and query.rtype not in OF_RESOLVERS:
            return "single_label"
        return ""

    def _is_foreign(self, query: Query, zone: bytes) -> bool:
        """Whether neither the server block nor FROM is about this zone."""
        return not names.is_within(query.zone, zone) and not names.is_within(self._source, zone)
