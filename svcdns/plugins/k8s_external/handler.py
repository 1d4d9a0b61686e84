"""The `k8s_external` plugin: answers queries in its zones with the external addresses of Services.

The cluster data are those of *kubernetes* in the same server block. The module `lookup` finds the addresses, and this
module makes replies of them. The answer table keeps a reply until one of its dependencies changes. In some cases
CoreDNS breaks its own rules; this plugin does the same. See docs/behaviour/plugins.md#k8s_external.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import cached_property

import msgspec

from svcdns.cluster.addresses import from_reverse, rdata_of
from svcdns.cluster.changes import Dependency
from svcdns.cluster.index import SERIAL
from svcdns.cluster.objects import NO_PORT
from svcdns.plugin_api.contract import Following, Plugin, steps, then
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply
from svcdns.plugin_api.settings import Settings
from svcdns.plugin_api.visibility import Visibility
from svcdns.plugin_api.zone_transfer import ZoneOffer
from svcdns.plugins.k8s_external import records, transfer
from svcdns.plugins.k8s_external.lookup import Cluster, HostPort, Lookup
from svcdns.plugins.k8s_external.options import Options
from svcdns.wire import names
from svcdns.wire.codes import AA, TC, Rcode, Type
from svcdns.wire.errors import NameTextError
from svcdns.wire.record import Record

ReplySteps = Generator[Answer, Reply, Reply]
"""The steps of a reply. The generator yields an answer, is sent its reply, and at last returns its own reply.

See `plugin_api.contract.steps`.
"""


class External(Plugin):
    """Answers queries in the external zones of one server block."""

    name = "k8s_external"

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Takes the zones from the options. The plugin *kubernetes* is looked up at the first query."""
        self.options, self._environment = options, environment
        zones = [names.from_text(zone).lower() for zone in options.zones]
        self._zones = sorted(zones, key=len, reverse=True)
        self._primary = zones[0] if zones else b""
        self._apex = names.from_text(options.apex)[:-1]
        self._apexes = [self._apex.lower() + zone for zone in zones]
        self._fallthrough = [names.from_text(zone).lower() for zone in options.fallthrough]

    @cached_property
    def _cluster(self) -> Cluster:
        cluster: Cluster = self._environment.peers("kubernetes")[0]
        return cluster

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self._cluster, headless=self.options.headless)

    def name_independent(self, zone: bytes) -> bool:
        """Returns True if the zone has no name in common with this plugin's zones."""
        return not any(names.is_within(zone, own) or names.is_within(own, zone) for own in self._zones)

    def transfer(self, zone: bytes, serial: int) -> ZoneOffer | None:
        """Returns the zone's records for the plugin `transfer`; see `plugin_api.zone_transfer`."""
        return self._offer(zone, serial, None)

    def visible_transfer(self, zone: bytes, serial: int, visibility: Visibility) -> ZoneOffer | None:
        """Returns the same records as `transfer`, without the Services that the client may not see."""
        return self._offer(zone, serial, visibility)

    def _offer(self, zone: bytes, serial: int, visibility: Visibility | None) -> ZoneOffer | None:
        if zone not in self._zones:
            return None
        local = self._environment.local_addresses
        return transfer.offer(self._lookup, self.options, self._apex, local, zone, serial, visibility)

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers queries for names in the plugin's zones.

        Queries for other names go to the next plugin. If a name does not exist and the option `fallthrough` covers it,
        the query also goes to the next plugin.
        """
        key = query.key
        zone = next((zone for zone in self._zones if names.is_within(key, zone)), None)
        if zone is None:
            return following(query)
        if key == zone:
            return self._apex_reply(query, zone)
        labels = [names.label_text(label) for label in names.labels_of(key[: len(key) - len(zone)] + b"\0")]
        if any(names.is_within(key, apex) for apex in self._apexes):
            return self._name_server(query, zone, labels)
        dependencies: list[Dependency] = []
        address = from_reverse(key) if query.rtype == Type.PTR else ""
        if address:
            found = self._lookup.at(address, dependencies, query.visibility)
            return (
                self._pointers(query, found, dependencies)
                if found
                else self._name_error(query, zone, dependencies, following)
            )
        host_ports = self._lookup.find(labels, dependencies, query.visibility)
        if host_ports is None:
            return self._name_error(query, zone, dependencies, following)
        if query.rtype in (Type.A, Type.AAAA):
            return steps(self._addresses(query, zone, host_ports, dependencies))
        if query.rtype == Type.SRV:
            return steps(self._services(query, zone, host_ports, dependencies))
        return self._negative(query, zone, dependencies)

    # -- the zone apex and the name servers

    def _apex_reply(self, query: Query, zone: bytes) -> Reply:
        dependencies: list[Dependency] = []
        if query.rtype == Type.SOA:
            return self._reply(query, [self._soa(zone)], [SERIAL])
        if query.rtype == Type.NS:
            server = records.SERVER + self._apex + query.name
            glue = self._servers(query, server, dependencies)
            return self._reply(query, [records.ns(zone, self._apex, self.options.ttl)], dependencies, glue)
        return self._negative(query, zone, dependencies)

    def _name_server(self, query: Query, zone: bytes, labels: list[str]) -> Reply:
        """Returns the reply for a name at or below the label of the option `apex`.

        The name servers of the zone have names there.
        """
        dependencies: list[Dependency] = []
        if len(labels) == 1:
            return self._negative(query, zone, dependencies)
        if len(labels) != 2 or labels[0] != "ns1":
            return self._negative(query, zone, dependencies, Rcode.NXDOMAIN)
        found = self._servers(query, query.name, dependencies)
        answer = [record for record in found if record.rtype == query.rtype]
        return self._reply(query, answer, dependencies) if answer else self._negative(query, zone, dependencies)

    def _servers(self, query: Query, name: bytes, dependencies: list[Dependency]) -> list[Record]:
        found = self._lookup.servers(self._environment.local_addresses, dependencies, query.visibility)
        return [
            Record(name, packed[0], self.options.ttl, packed[1])
            for host in found
            if (packed := rdata_of(host)) is not None
        ]

    # -- Services

    def _addresses(
        self, query: Query, zone: bytes, host_ports: list[HostPort], dependencies: list[Dependency]
    ) -> ReplySteps:
        """Returns the records for a Service's external addresses, without duplicates.

        For a hostname: a CNAME record, followed by what this server answers for the hostname.
        """
        answer: list[Record] = []
        targets: dict[bytes, Reply] = {}
        seen: set[str] = set()
        flags = 0
        for host, _, _ in host_ports:
            packed = rdata_of(host)
            if packed is not None:
                if packed[0] == query.rtype and host not in seen:
                    seen.add(host)
                    answer.append(Record(query.name, packed[0], self.options.ttl, packed[1]))
                continue
            target = _host_name(host)
            if target is None:
                continue
            if target not in targets:
                targets[target] = yield query.ask(target, query.rtype)
            answer += [Record(query.name, Type.CNAME, self._cluster.options.ttl, target), *targets[target].answer]
            flags |= targets[target].flags & TC
        return (
            self._reply(query, answer, dependencies, flags=flags)
            if answer
            else self._negative(query, zone, dependencies)
        )

    def _services(
        self, query: Query, zone: bytes, host_ports: list[HostPort], dependencies: list[Dependency]
    ) -> ReplySteps:
        """Returns SRV records, one for each target and port, and the addresses of the targets."""
        weight, ttl = records.weight_of(len(host_ports) or 1), self._cluster.options.ttl
        answer: dict[tuple[bytes, int], Record] = {}
        additional: list[Record] = []
        seen: set[tuple[bytes, str]] = set()
        for host, port, name in host_ports:
            packed = rdata_of(host)
            target = _host_name(host) if packed is None else _name_below(name, zone)
            if port.number == NO_PORT or target is None:
                continue
            answer.setdefault((target, port.number), records.srv(query.name, ttl, weight, port, target))
            if (target, host) in seen:
                continue
            seen.add((target, host))
            if packed is not None:
                additional.append(Record(target, packed[0], self.options.ttl, packed[1]))
                continue
            for rtype in (Type.A, Type.AAAA):
                other = yield query.ask(target, rtype)
                additional += other.answer
        if not answer:
            return self._negative(query, zone, dependencies)
        return self._reply(query, list(answer.values()), dependencies, additional)

    def _pointers(self, query: Query, found: list[str], dependencies: list[Dependency]) -> Reply:
        targets = [target for text in found if (target := _name_below(text, self._primary)) is not None]
        return self._reply(
            query, [Record(query.name, Type.PTR, self.options.ttl, target) for target in targets], dependencies
        )

    # -- replies

    def _reply(
        self,
        query: Query,
        answer: list[Record],
        dependencies: list[Dependency],
        additional: list[Record] | None = None,
        flags: int = 0,
    ) -> Reply:
        return Reply(
            flags=query.reply_flags | AA | flags,
            answer=tuple(answer),
            additional=tuple(additional or ()),
            lifetime=UNTIL_CHANGED,
            dependencies=tuple(dependencies),
            scope=query.cluster_scope,
            extended=self._cluster.extended,
        )

    def _negative(self, query: Query, zone: bytes, dependencies: list[Dependency], rcode: int = Rcode.NOERROR) -> Reply:
        return Reply(
            rcode=rcode,
            flags=query.reply_flags | AA,
            authority=(self._soa(zone),),
            lifetime=UNTIL_CHANGED,
            dependencies=tuple(dependencies),
            scope=query.cluster_scope,
            extended=self._cluster.extended,
        )

    def _name_error(self, query: Query, zone: bytes, dependencies: list[Dependency], following: Following) -> Answer:
        if any(names.is_within(query.key, other) for other in self._fallthrough):
            self._environment.depends_on(*dependencies)
            answer, scope = following(query), query.cluster_scope
            return answer if scope is CacheScope.SHARED else then(answer, lambda reply: _at_least(reply, scope))
        return self._negative(query, zone, dependencies, Rcode.NXDOMAIN)

    def _soa(self, zone: bytes) -> Record:
        return records.soa(zone, self._apex, self.options.ttl, self._cluster.index.serials.external)


def _at_least(reply: Reply, scope: CacheScope) -> Reply:
    return msgspec.structs.replace(reply, scope=max(reply.scope, scope))


def _host_name(host: str) -> bytes | None:
    try:
        return names.from_text(host)
    except NameTextError:
        return None


def _name_below(text: str, zone: bytes) -> bytes | None:
    try:
        return records.name_below(text, zone)
    except NameTextError:
        return None
