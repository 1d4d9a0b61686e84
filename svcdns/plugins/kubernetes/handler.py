"""The `kubernetes` plugin: answers the cluster's zones from the index (docs/behaviour/cluster-names.md).

The module `records` finds records, and this module makes replies of them. The answer table keeps a reply until one of
its dependencies changes. If the data are older than `stale_after`, replies carry the extended error Stale Answer (RFC
8914 §4.4).
"""

from __future__ import annotations

from typing import Final

import msgspec

from svcdns.cluster.changes import Kind
from svcdns.cluster.index import SERIAL, SYNC, Index
from svcdns.corefile.zones import is_reverse
from svcdns.log_line import LogLine
from svcdns.plugin_api.closest_encloser import Encloser
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply, rcode_only
from svcdns.plugin_api.settings import Settings
from svcdns.plugin_api.visibility import Visibility
from svcdns.plugin_api.zone_transfer import ZoneOffer
from svcdns.plugins.kubernetes import apex, metadata, transfer
from svcdns.plugins.kubernetes.cold_path import ClusterAnswers
from svcdns.plugins.kubernetes.options import Options
from svcdns.plugins.kubernetes.qname import NoSuchNameError
from svcdns.plugins.kubernetes.records import REVERSE_ZONES, RecordFinder
from svcdns.plugins.kubernetes.zone_query import Result, ZoneQuery
from svcdns.wire import names
from svcdns.wire.codes import AA, TC, ExtendedError, Rcode, Type
from svcdns.wire.record import Record

_ANSWERED_ANYWHERE: Final = frozenset({Type.SOA, Type.NS, Type.TXT, Type.PTR, Type.AXFR, Type.IXFR})
"""Query types for which a negative answer depends on more than whether the name exists."""

_SUBTREES: Final = frozenset({("", "svc"), ("", "pod"), ("", "dns")})
"""The labels that exist directly below a zone."""


class Kubernetes(Plugin):
    """Answers queries in the cluster zones of one server block."""

    name = "kubernetes"
    offers = ("extended", "index", "pod_namespace", "search_zone")

    def __init__(self, options: Options, environment: Environment) -> None:
        """Takes the index of the watch in `options` from the environment."""
        self.options = options
        self.index: Index = environment.index(options.watch)
        self._records = RecordFinder(self.index, options, environment.local_addresses)
        self._local = environment.local_addresses
        self._clock, self._invalidate_all = environment.clock, environment.invalidate_all
        self._depends_on = environment.depends_on
        self._log = environment.log if environment.first else None
        self.extended: int | None = None
        """The extended error of every reply, or None while the data is fresh."""
        self.zones = sorted((names.from_text(zone).lower() for zone in options.zones), key=len, reverse=True)
        self.own_zones = tuple(zone for zone in self.zones if not zone.endswith(REVERSE_ZONES))
        self._multicluster = frozenset(names.from_text(zone).lower() for zone in options.multicluster)
        self._unforeseen = frozenset(
            zone for zone in self.zones if self._is_multicluster(zone) or zone.endswith(REVERSE_ZONES)
        )
        self._fallthrough = tuple(names.from_text(zone).lower() for zone in options.fallthrough)
        self.complete_zones = tuple(
            zone
            for zone in self.zones
            if not any(names.is_within(zone, other) or names.is_within(other, zone) for other in self._fallthrough)
        )
        self._cold_zones = tuple(zone for zone in self.zones if self._may_be_cold(zone))
        forward = [zone for zone in self._cold_zones if not zone.endswith(REVERSE_ZONES)]
        self._cold_answers = ClusterAnswers(self.index, options, self._fallthrough, forward, self.handle)

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the cluster to watch, and with the time that a start may wait for it."""
        return Settings(
            startup_timeout=options.startup_timeout,
            watch=options.watch,
            cluster_zones=tuple(zone for zone in options.zones if not is_reverse(zone)),
            snapshot=options.snapshot,
            warnings=options.warnings,
        )

    def ready(self) -> bool:
        """Returns True once the objects of the cluster have been listed."""
        return self.index.synced

    def start(self) -> None:
        """Checks whether the data are older than `stale_after`.

        If they are, replies have the extended error Stale Answer (RFC 8914 §4.4).
        """
        self.tick()

    def tick(self) -> None:
        """Checks again whether the data are older than `stale_after`. Called about once a second.

        While they are, replies have the extended error Stale Answer (RFC 8914 §4.4).
        """
        stale = self.index.synced and self._clock() - self.index.confirmed > self.options.stale_after
        extended = ExtendedError.STALE_ANSWER if stale else None
        if extended != self.extended:
            self.extended = extended
            self._cold_answers.stale = extended is not None
            self._invalidate_all()
            if self._log is not None and stale:
                age = self._clock() - self.index.confirmed
                self._log.warning(
                    LogLine(
                        "the state of the cluster is stale",
                        age_seconds=age,
                        stale_after_seconds=self.options.stale_after,
                    )
                )
            elif self._log is not None:
                self._log.info("the state of the cluster is fresh again")

    def search_zone(self, key: bytes) -> bytes | None:
        """Called by `autopath`: returns the zone of this plugin that contains the name `key`, or None.

        Always returns None unless the option `pods` is `verified`.
        """
        return self._zone_of(key) if self.options.pods == "verified" else None

    def pod_namespace(self, address: str) -> str:
        """Called by `autopath`: returns the namespace of the Pod with that address, or an empty text.

        A caller that uses the result in a reply must add the dependency ("pod", address) to the reply.
        """
        pods = self.index.pods_at(address) if self.options.pods == "verified" else ()
        return pods[0].namespace.lower() if pods else ""

    def metadata(self, query: Query, label: str) -> str:
        """Returns metadata about the Pod that sent the query, or about the parts of the query name."""
        found = self.client_metadata(query.client.address, label)
        zone = self._zone_of(query.key)
        if found or zone is None:
            return found
        labels = names.labels_of(query.key[: len(query.key) - len(zone)] + b"\0")
        texts = [one.decode("latin-1") for one in labels]
        return metadata.of_name(texts, label, multicluster=self._is_multicluster(zone), zonal=self.options.zonal)

    def client_metadata(self, address: str, label: str) -> str:
        """Returns metadata about the Pod with the address `address`; other metadata do not depend on the client.

        As in CoreDNS, Pods are known only with the option `pods verified`.
        """
        return metadata.of_client(self.index, address, label) if self.options.pods == "verified" else ""

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers queries for names in the plugin's zones.

        Queries for other names go to the next plugin. If a name does not exist and the option `fallthrough` covers it,
        the query also goes to the next plugin.
        """
        zone = self._zone_of(query.key)
        if zone is None:
            return following(query)
        zone_query = ZoneQuery(query, zone, query.name[len(query.name) - len(zone) :], self._is_multicluster(zone), [])
        if query.rtype in (Type.AXFR, Type.IXFR):
            return rcode_only(Rcode.REFUSED)
        try:
            result = self._records.find(zone_query)
        except NoSuchNameError:
            return self._name_error(zone_query, following)
        if not result.answer:
            return self._negative(zone_query, Rcode.NOERROR)
        return self._positive(zone_query, result)

    def answers_like(self, previous: Kubernetes) -> bool:
        """Returns True if both plugins have the same objects, and the replies of `previous` are not marked as stale."""
        same_objects = self.index is previous.index and self._local == previous._local
        return same_objects and previous.extended is None

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Excludes the plugin's zones from the fast path (forwarding without the plugin chain).

        Returns True, because other queries may take the fast path.
        """
        fast_path.zones += tuple(self.zones)
        return True

    def join_cold_path(self, cold_path: ColdPath) -> bool:
        """Lets the cold path (replies without the plugin chain) answer from the cluster, and returns True.

        Zones of the option `multicluster` are excluded.
        """
        cold_path.source, cold_path.zones = self._cold_answers, self._cold_zones
        cold_path.ttl = self.options.ttl
        return True

    def _may_be_cold(self, zone: bytes) -> bool:
        divided = any(other != zone and names.is_within(other, zone) for other in self.zones)
        return zone != names.ROOT and not self._is_multicluster(zone) and not divided

    def closest_encloser(self, key: bytes, rtype: int) -> Encloser | None:
        """Returns the closest encloser of a name whose namespace or Service does not exist.

        Returns None if two nonexistent names below the encloser may get different answers
        (docs/behaviour/cluster-names.md#nxdomain-or-nodata).
        """
        zone = self._zone_of(key)
        if zone is None or rtype in _ANSWERED_ANYWHERE or zone in self._unforeseen or not self.index.synced:
            return None
        labels = names.labels_of(key[: len(key) - len(zone)] + b"\0")
        if not labels or labels[-1] in (b"pod", b"dns"):
            return None
        if labels[-1] != b"svc":
            found = Encloser(zone, "", _SUBTREES, apex.NS_LABELS, (SERIAL,), "")
        else:
            if len(labels) < 3:
                return None
            subtree, namespace = b"\3svc" + zone, labels[-2].decode("latin-1")
            if not self.index.has_namespace(namespace):
                found = Encloser(subtree, "", self.index.names(Kind.NAMESPACE), apex.NS_LABELS, (SERIAL,), "namespace")
            else:
                within = bytes((len(labels[-2]),)) + labels[-2] + subtree
                found = Encloser(
                    within,
                    namespace,
                    self.index.names(Kind.SERVICE),
                    apex.NS_LABELS,
                    (SERIAL, ("namespace", namespace)),
                    "service",
                )
        return None if self._is_divided(found.key) else found

    def _is_divided(self, key: bytes) -> bool:
        """Returns True if two nonexistent names below `key` may get different answers.

        This is so if `fallthrough` covers `key`, or if a zone of the plugin or of `fallthrough` begins below `key`.
        """
        return self._falls_through(key) or any(
            names.is_within(zone, key) and zone != key for zone in (*self.zones, *self._fallthrough)
        )

    def transfer(self, zone: bytes, serial: int) -> ZoneOffer | None:
        """Returns the zone's records for the plugin `transfer`; see `plugin_api.zone_transfer`."""
        return self._offer(zone, serial, None)

    def visible_transfer(self, zone: bytes, serial: int, visibility: Visibility) -> ZoneOffer | None:
        """Returns the same records as `transfer`, without the Services that the client may not see."""
        return self._offer(zone, serial, visibility)

    def _offer(self, zone: bytes, serial: int, visibility: Visibility | None) -> ZoneOffer | None:
        if self._zone_of(zone) is None:
            return None
        multicluster = self._is_multicluster(zone)
        return transfer.offer(
            self.index, self.options, self._local, zone, serial, multicluster=multicluster, visibility=visibility
        )

    def _is_multicluster(self, zone: bytes) -> bool:
        return any(names.is_within(zone, other) for other in self._multicluster)

    def _zone_of(self, key: bytes) -> bytes | None:
        for zone in self.zones:
            if key.endswith(zone) and names.is_within(key, zone):
                return zone
        return None

    # -- replies

    def _positive(self, zone_query: ZoneQuery, result: Result) -> Answer:
        aliases = [part[1] for part in result.answer if isinstance(part, tuple)]
        if not aliases:
            return Reply(
                flags=zone_query.query.reply_flags | AA,
                answer=tuple(result.answer),  # type: ignore[arg-type]
                additional=tuple(result.additional),
                lifetime=UNTIL_CHANGED,
                dependencies=zone_query.depends_on,
                scope=zone_query.query.cluster_scope,
                extended=self.extended,
            )
        if all(isinstance(answer, Reply) for answer in aliases):
            return self._with_targets(zone_query, result, aliases)  # type: ignore[arg-type]
        return self._with_awaited_targets(zone_query, result, aliases)

    async def _with_awaited_targets(self, zone_query: ZoneQuery, result: Result, aliases: list[Answer]) -> Reply:
        replies = [answer if isinstance(answer, Reply) else await answer for answer in aliases]
        return self._with_targets(zone_query, result, replies)

    def _with_targets(self, zone_query: ZoneQuery, result: Result, replies: list[Reply]) -> Reply:
        """Returns the reply for `result`. Inserts the records of each reply in `replies` after the CNAME record with
        its target.

        `replies` are the server's replies for the CNAME targets outside the zone, in order.
        """
        flags = zone_query.query.reply_flags | AA
        records: list[Record] = []
        remaining = iter(replies)
        for part in result.answer:
            if isinstance(part, Record):
                records.append(part)
                continue
            target = next(remaining)
            if not target.dropped:
                records.append(part[0])
                records += target.answer
                flags |= target.flags & TC
        if not records:
            return self._negative(zone_query, Rcode.NOERROR)
        dependencies = zone_query.depends_on
        return Reply(
            flags=flags,
            answer=tuple(records),
            lifetime=UNTIL_CHANGED,
            dependencies=dependencies,
            scope=zone_query.query.cluster_scope,
            extended=self.extended,
        )

    def _name_error(self, zone_query: ZoneQuery, following: Following) -> Answer:
        if self._falls_through(zone_query.query.key):
            self._depends_on(*zone_query.depends_on)
            answer = following(zone_query.query)
            return answer if zone_query.query.visibility is None else then(answer, _of_client_class)
        if not self.index.synced:
            zone_query.dependencies.append(SYNC)
            return self._negative(zone_query, Rcode.SERVFAIL)
        return self._negative(zone_query, Rcode.NXDOMAIN)

    def _falls_through(self, key: bytes) -> bool:
        return any(names.is_within(key, zone) for zone in self._fallthrough)

    def _negative(self, zone_query: ZoneQuery, rcode: int) -> Reply:
        return Reply(
            rcode=rcode,
            flags=zone_query.query.reply_flags | AA,
            authority=(self._records.soa(zone_query),),
            lifetime=UNTIL_CHANGED,
            dependencies=zone_query.depends_on,
            scope=zone_query.query.cluster_scope,
            extended=self.extended,
        )


def _of_client_class(reply: Reply) -> Reply:
    return msgspec.structs.replace(reply, scope=max(reply.scope, CacheScope.CLIENT_CLASS))
