"""Answers queries on the cold path (`svcdns.plugin_api.cold_path`).

The addresses of names are those of `records`, without `Record` objects. Queries of other types than A and AAAA get the
replies of `handler`. The plugin chain answers for names with CNAME records, for name servers, for names that
`fallthrough` covers, and for all names while the data are stale.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Final

from svcdns.cluster.addresses import rdata_of
from svcdns.cluster.changes import Dependency
from svcdns.cluster.index import Index
from svcdns.cluster.objects import HEADLESS
from svcdns.plugin_api.cold_path import ADDRESS_TYPES, OTHER_TYPES, Found
from svcdns.plugin_api.contract import Following
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.kubernetes import apex, qname
from svcdns.plugins.kubernetes.lookup import Lookup, LookupResult
from svcdns.plugins.kubernetes.options import Options
from svcdns.plugins.kubernetes.qname import NoSuchNameError
from svcdns.plugins.kubernetes.records import REVERSE_ZONES
from svcdns.plugins.kubernetes.zone_query import NAME_ALONE
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record import Record

MAX_SLICE_OCTETS: Final = 16 << 10
"""The most octets of encoded EndpointSlices that are read for one name. The chain answers for larger Services."""
_LABELS_OF_SOA: Final = (b"dns", b"hostmaster")
"""Labels that also occur in the SOA record, so that a name with one of them compresses this record in another way."""


_Read = tuple[()] | tuple[bytes] | tuple[bytes, bytes] | tuple[str, str] | tuple[str, str, str] | tuple[bytes, int]
"""The origin of the latest result.

It is empty for a reply without dependencies. It has one or two labels for a namespace or a Service that does not exist.
For a Service that exists it has namespace and name as text, and a third item if the endpoints were read. For any other
name it has the name, and the offset of its zone.
"""


class ClusterAnswers:
    """Finds the address records for the zones of one server block in the index of the cluster."""

    def __init__(
        self,
        index: Index,
        options: Options,
        fallthrough: Iterable[bytes],
        zones: Iterable[bytes],
        handle: Callable[[Query, Following], Answer],
    ) -> None:
        """`zones` has the zones that take the cold path, without reverse zones.

        `fallthrough` has the zones of the option `fallthrough`. `handle` is the plugin's hook.
        """
        self._index, self._options, self._lookup, self._handle = index, options, Lookup(index, options), handle
        self._falls_through = any(
            names.is_within(zone, other) or names.is_within(other, zone) for zone in zones for other in fallthrough
        )
        self.stale = False
        """True while the chain has to answer every query, because replies have an extended error."""
        self._read: _Read = ()

    def types(self, zone: bytes) -> Collection[int]:
        """Returns the query types that take the cold path in a zone. In a reverse zone, this is only PTR."""
        return (Type.PTR,) if zone.endswith(REVERSE_ZONES) else ADDRESS_TYPES | OTHER_TYPES

    def reply(self, query: Query) -> Reply | None:
        """Returns the plugin's reply.

        Returns None if the reply has an extended error, or if the next plugin must answer.
        """
        reply = self._handle(query, _fall_through)
        if not isinstance(reply, Reply) or reply is _FALLEN_THROUGH or reply.extended is not None:
            return None
        return reply

    def service(self, name: bytes, at: int, end: int, rtype: int) -> Found:
        """Returns the address records of a Service. See `AnswerSource`."""
        index, options = self._index, self._options
        if self.stale or index.has_odd_names:
            return None
        octets, label = name[at + 1 : end], name[1:at].decode("latin-1")
        namespace = octets.decode("latin-1")
        if not index.has_namespace(namespace):
            self._read = (octets,)
            return self._nonexistent(end)
        if options.namespaces and namespace not in options.namespaces:
            self._read = (octets,)
            return self._nonexistent(0 if index.has_service(namespace, label) else at)
        service = index.service(namespace, label)
        if service is None:
            self._read = octets, name[1:at]
            return None if self._falls_through or not index.synced else at  # as `_nonexistent`, without a call
        if service.external_name is not None:
            return None
        self._read = namespace, label
        addresses = service.cluster_ips
        if addresses and addresses[0] == HEADLESS:
            self._read = namespace, label, "endpoints"
            return self._endpoints(namespace, label, rtype)
        if options.ignore_empty_service:
            self._read = namespace, label, "endpoints"
            if not any(one.endpoints for one in index.slices(namespace, label)):
                return self._nonexistent(0)
        if not service.ports:
            return self._nonexistent(0)
        if len(addresses) != 1:
            return _addresses(addresses, rtype)
        packed = rdata_of(addresses[0])
        return None if packed is None else [packed[1]] if packed[0] == rtype else []

    def name(self, name: bytes, starts: Sequence[int], zone_at: int, rtype: int) -> Found:
        """Returns the address records of any name. See `AnswerSource`."""
        if self.stale or self._index.has_odd_names or name.startswith(apex.NS_LABELS):
            return None
        self._read = name, zone_at
        if not starts:
            return []
        first = name[starts[-1] + 1 : zone_at]
        if first != b"svc":
            if first in _LABELS_OF_SOA:
                return None
            if first != b"pod":
                self._read = ()
                return self._nonexistent(zone_at)
        elif len(starts) > 2:
            namespace_at, svc_at = starts[-2:]
            octets, label = name[namespace_at + 1 : svc_at], name[starts[-3] + 1 : namespace_at]
            namespace, usual = octets.decode("latin-1"), len(starts) <= qname.MAX_LABELS
            if not usual and not self._options.zonal:
                self._read = ()
            if not self._index.has_namespace(namespace):
                if usual:
                    self._read = (octets,)
                return self._nonexistent(svc_at)
            if not self._index.has_service(namespace, label.decode("latin-1")):
                if usual and not self._options.namespaces:
                    self._read = octets, label
                return self._nonexistent(namespace_at)
        try:
            found = self._find(name, zone_at, [])
        except NoSuchNameError:
            return self._nonexistent(0)
        return _addresses([host for host, _, _ in found.host_ports], rtype)

    def dependencies(self) -> tuple[Dependency, ...]:
        """Returns the objects that the latest result of `service` or `name` depends on."""
        read = self._read
        if not read:
            return NAME_ALONE
        if isinstance(read[-1], int):
            return self._dependencies_of(read[0], read[1])
        if isinstance(read[0], bytes):
            labels = [names.label_text(label) for label in read]
            return (("namespace", labels[0]), ("service", *labels)) if len(labels) > 1 else (("namespace", *labels),)
        namespace, service, *endpoints = read
        found = (("namespace", namespace), ("service", namespace, service))
        return (*found, ("endpoints", namespace, service)) if endpoints else found

    def _dependencies_of(self, name: bytes, zone_at: int) -> tuple[Dependency, ...]:
        """Finds a name again for its dependencies."""
        dependencies: list[Dependency] = []
        with suppress(NoSuchNameError):
            self._find(name, zone_at, dependencies)
        return tuple(dependencies) or NAME_ALONE

    def soa(self, zone: bytes) -> Record:
        """Returns the SOA record of a zone."""
        return apex.soa(zone, self._options.ttl, self.serial())

    def serial(self) -> int:
        """Returns the serial of the SOA records."""
        return self._index.serials.ordinary

    def _find(self, name: bytes, zone_at: int, dependencies: list[Dependency]) -> LookupResult:
        """Returns the hosts and ports of a name. Raises NoSuchNameError."""
        labels = [names.label_text(label) for label in names.labels_of(name[:zone_at] + b"\0")]
        parsed = qname.parse(labels, zonal=self._options.zonal)
        return self._lookup.find(parsed, dependencies, multicluster=False)

    def _endpoints(self, namespace: str, service: str, rtype: int) -> Found:
        """Returns the addresses of a headless Service's endpoints."""
        slices = self._index.small_slices(namespace, service, MAX_SLICE_OCTETS)
        if slices is None:
            return None
        addresses = [endpoint.address for one in slices if one.ports for endpoint in one.endpoints]
        return _addresses(addresses, rtype) if addresses else self._nonexistent(0)

    def _nonexistent(self, left: int) -> Found:
        """Returns `left`, the number of octets left of the closest encloser. Returns None if the chain must answer."""
        return None if self._falls_through or not self._index.synced else left


_FALLEN_THROUGH: Final = Reply()


def _fall_through(_query: Query) -> Reply:
    return _FALLEN_THROUGH


def _addresses(hosts: Iterable[str], rtype: int) -> Found:
    """Returns the RDATA of the addresses of one type, without duplicates. Returns None if a host is not an address."""
    found: list[bytes] = []
    seen: set[str] = set()
    for host in hosts:
        packed = rdata_of(host)
        if packed is None:
            return None
        if packed[0] == rtype and host not in seen:
            seen.add(host)
            found.append(packed[1])
    return found
