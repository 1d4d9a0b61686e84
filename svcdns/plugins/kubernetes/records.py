"""Finds the records for a query in a zone, by query type (docs/behaviour/cluster-names.md).

The module `handler` makes replies of the records. In some cases CoreDNS breaks its own rules; this module does the
same.
"""

from __future__ import annotations

import struct
from typing import Final

from svcdns.cluster.addresses import from_reverse, rdata_of
from svcdns.cluster.index import SERIAL, Index
from svcdns.cluster.objects import NO_PORT
from svcdns.plugins.kubernetes import apex, qname, reverse
from svcdns.plugins.kubernetes.lookup import HostPort, Lookup, LookupResult
from svcdns.plugins.kubernetes.options import Options
from svcdns.plugins.kubernetes.qname import NoSuchNameError
from svcdns.plugins.kubernetes.zone_query import Alias, Result, ZoneQuery
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.errors import NameTextError
from svcdns.wire.record import Record

SCHEMA_VERSION: Final = "1.1.0"
"""The version of the Kubernetes DNS specification, for the TXT record at `dns-version` (specification §2.2)."""
SCHEMA_TTL: Final = 28800
MAX_CNAMES: Final = 10
"""The most CNAME records in one chain inside the zone."""
REVERSE_ZONES: Final = (names.from_text("in-addr.arpa."), names.from_text("ip6.arpa."))
_SRV: Final = struct.Struct("!HHH")


class RecordFinder:
    """Finds the records for the zones of one server block in the index of the cluster."""

    def __init__(self, index: Index, options: Options, local_addresses: tuple[str, ...]) -> None:
        """`local_addresses` are the addresses of this machine.

        The Services with an endpoint at one of these addresses are the zone's name servers.
        """
        self._index, self._options, self._local = index, options, local_addresses
        self._lookup = Lookup(index, options)
        self._primary = names.from_text(options.primary_zone)

    def find(self, zone_query: ZoneQuery) -> Result:
        """Returns the records for a query. Raises NoSuchNameError."""
        query = zone_query.query
        rtype = query.rtype
        if rtype in (Type.A, Type.AAAA):
            return Result(self._addresses(zone_query, query.name, query.key, rtype, ()))
        if rtype == Type.SRV:
            return self._srv(zone_query)
        if rtype == Type.PTR:
            return self._ptr(zone_query)
        if rtype == Type.SOA:
            if query.key == zone_query.zone:
                zone_query.dependencies.append(SERIAL)
                return Result([self.soa(zone_query)])
            return Result([])
        if rtype == Type.CNAME:
            return self._cname(zone_query)
        if rtype == Type.TXT:
            return self._txt(zone_query)
        if rtype == Type.NS and query.key == zone_query.zone and zone_query.spelled == zone_query.zone:
            return self._ns(zone_query)
        self._look_up(zone_query, query.key)
        return Result([])

    def soa(self, zone_query: ZoneQuery) -> Record:
        """Returns the SOA record of the query's zone."""
        serials = self._index.serials
        return apex.soa(
            zone_query.spelled, self._options.ttl, serials.multicluster if zone_query.multicluster else serials.ordinary
        )

    def _look_up(self, zone_query: ZoneQuery, key: bytes) -> LookupResult:
        """Returns the hosts and ports of a name in the zone. Raises NoSuchNameError."""
        below = key[: len(key) - len(zone_query.zone)]
        if apex.is_server_name(key, zone_query.spelled):
            return LookupResult([host_port for host_port, _ in self._servers(zone_query)], "")
        return self._look_up_labels(zone_query, below + b"\0")

    def _servers(self, zone_query: ZoneQuery) -> list[tuple[HostPort, str]]:
        return apex.servers(
            self._index,
            self._local,
            zone_query.dependencies,
            pod_names=self._options.endpoint_pod_names,
            visibility=zone_query.query.visibility,
        )

    def _look_up_labels(self, zone_query: ZoneQuery, below: bytes) -> LookupResult:
        labels = [names.label_text(label) for label in names.labels_of(below)]
        name = qname.parse(labels, multicluster=zone_query.multicluster, zonal=self._options.zonal)
        if name.subtree and zone_query.zone.endswith(REVERSE_ZONES):
            raise NoSuchNameError
        return self._lookup.find(
            name,
            zone_query.dependencies,
            multicluster=zone_query.multicluster,
            visibility=zone_query.query.visibility,
        )

    def _addresses(
        self, zone_query: ZoneQuery, name: bytes, key: bytes, rtype: int, chain: tuple[bytes, ...]
    ) -> list[Record | Alias]:
        """Returns the address records of a name, or the CNAME record of an ExternalName Service and the records of its
        target.

        `chain` has the targets of the previous CNAME records. Raises NoSuchNameError.
        """
        ttl = self._options.ttl
        out: list[Record | Alias] = []
        seen: set[str] = set()
        for host, _, _ in self._look_up(zone_query, key).host_ports:
            packed = rdata_of(host)
            if packed is None:
                out += self._alias(zone_query, name, key, host, rtype, chain)
            elif packed[0] == rtype and host not in seen:
                seen.add(host)
                out.append(Record(name, rtype, ttl, packed[1]))
        return out

    def _alias(
        self, zone_query: ZoneQuery, name: bytes, key: bytes, host: str, rtype: int, chain: tuple[bytes, ...]
    ) -> list[Record | Alias]:
        """Returns a CNAME record and the records of its target (docs/behaviour/cluster-names.md#externalname).

        Returns an empty list if the CNAME records form a loop, or if the last target is in the zone and has no address.
        """
        try:
            target = names.from_text(host)
        except NameTextError:
            return []
        lowered = target.lower()
        if names.is_within(lowered, key) or len(chain) > MAX_CNAMES or target in chain:
            return []
        cname = Record(name, Type.CNAME, self._options.ttl, target)
        if not names.is_within(lowered, zone_query.zone):
            return [(cname, zone_query.query.ask(target, rtype))]
        try:
            rest = self._addresses(zone_query, target, lowered, rtype, (*chain, target))
        except NoSuchNameError:
            return []
        return [cname, *rest] if rest else []

    def _cname(self, zone_query: ZoneQuery) -> Result:
        host_ports = self._look_up(zone_query, zone_query.query.key).host_ports
        if not host_ports or rdata_of(host_ports[0][0]) is not None:
            return Result([])
        try:
            return Result(
                [Record(zone_query.query.name, Type.CNAME, self._options.ttl, names.from_text(host_ports[0][0]))]
            )
        except NameTextError:
            return Result([])

    def _txt(self, zone_query: ZoneQuery) -> Result:
        """Returns the TXT record of `dns-version`, or NODATA if the name has records of other types.

        As in CoreDNS, raises NoSuchNameError for all other names, even for empty non-terminals.
        """
        query = zone_query.query
        if query.key == b"\x0bdns-version" + zone_query.zone:
            text = SCHEMA_VERSION.encode()
            return Result([Record(query.name, Type.TXT, SCHEMA_TTL, bytes((len(text),)) + text)])
        below = query.key[: len(query.key) - len(zone_query.zone)] + b"\0"
        found = self._look_up_labels(zone_query, below)
        if not found.host_ports and not (self._options.zonal and len(names.labels_of(below)) > 5):
            raise NoSuchNameError
        return Result([])

    def _srv(self, zone_query: ZoneQuery) -> Result:
        """Returns the SRV records of every matching port, and the addresses of their targets.

        See docs/behaviour/cluster-names.md#srv-records.
        """
        found = self._look_up(zone_query, zone_query.query.key)
        host_ports = [
            (host_port, packed) for host_port in found.host_ports if (packed := rdata_of(host_port[0])) is not None
        ]
        if not host_ports:
            return Result([])
        total = 100 * len(host_ports)
        weight = max(1, int(100.0 / total * 100))
        result = Result([], [])
        targets: dict[tuple[bytes, int], None] = {}
        addresses: dict[tuple[bytes, str], None] = {}
        ttl = self._options.ttl
        for (host, port, label), (rtype, rdata) in host_ports:
            if port == NO_PORT:
                continue
            target = self._target(found, label, zone_query)
            if target is None:
                continue
            if (target, port) not in targets:
                targets[target, port] = None
                result.answer.append(Record(zone_query.query.name, Type.SRV, ttl, _SRV.pack(0, weight, port) + target))
            if (target, host) not in addresses:
                addresses[target, host] = None
                result.additional.append(Record(target, rtype, ttl, rdata))
        return result

    def _target(self, found: LookupResult, label: str, zone_query: ZoneQuery) -> bytes | None:
        if not found.base:
            return None
        try:
            return apex.name_below(found.base, label, zone_query.spelled)
        except NameTextError:
            return None

    def _ns(self, zone_query: ZoneQuery) -> Result:
        result = Result([], [])
        seen: set[bytes] = set()
        for (host, _, label), base in self._servers(zone_query):
            packed = rdata_of(host)
            if packed is None:
                continue
            server = apex.name_below(base, label, zone_query.spelled)
            result.additional.append(Record(server, packed[0], self._options.ttl, packed[1]))
            if server not in seen:
                seen.add(server)
                result.answer.append(Record(zone_query.query.name, Type.NS, self._options.ttl, server))
        return result

    def _ptr(self, zone_query: ZoneQuery) -> Result:
        key = zone_query.query.key
        address = from_reverse(key) if key.endswith(REVERSE_ZONES) else ""
        if not address:
            below = key[: len(key) - len(zone_query.zone)]
            self._look_up_labels(zone_query, below + b"\0")
            return Result([])
        found = reverse.targets(
            address,
            self._index,
            self._lookup,
            self._options,
            zone_query.dependencies,
            zone_query.query.visibility,
        )
        if not found:
            raise NoSuchNameError
        records: list[Record | Alias] = []
        for base in found:
            try:
                target = names.from_text(base)[:-1] + self._primary
            except NameTextError:
                continue
            records.append(Record(zone_query.query.name, Type.PTR, self._options.ttl, target))
        return Result(records)
