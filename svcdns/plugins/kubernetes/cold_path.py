"""Finds the address records of cluster names for the cold path (`svcdns.plugin_api.cold_path`).

The results are those of `records`, without `Record` objects. The plugin chain answers for names with CNAME records, for
name servers, for names that `fallthrough` covers, and for all names while the data are stale.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from svcdns.cluster.addresses import rdata_of
from svcdns.cluster.changes import Dependency
from svcdns.cluster.index import Index
from svcdns.plugin_api.cold_path import Found
from svcdns.plugins.kubernetes import apex, qname
from svcdns.plugins.kubernetes.lookup import Lookup, LookupResult
from svcdns.plugins.kubernetes.options import Options
from svcdns.plugins.kubernetes.qname import NoSuchNameError
from svcdns.plugins.kubernetes.zone_query import NAME_ALONE
from svcdns.wire import names
from svcdns.wire.record import Record

MAX_SLICE_OCTETS: Final = 16 << 10
"""The most octets of encoded EndpointSlices that are read for one name. The chain answers for larger Services."""
_LABELS_OF_SOA: Final = (b"dns", b"hostmaster")
"""Labels that also occur in the SOA record, so that a name with one of them compresses this record in another way."""


class ClusterAnswers:
    """Finds the address records for the zones of one server block in the index of the cluster."""

    def __init__(self, index: Index, options: Options, fallthrough: Iterable[bytes], zones: Iterable[bytes]) -> None:
        """`zones` are the zones that take the cold path. `fallthrough` has the zones of the option `fallthrough`."""
        self._index, self._options, self._lookup = index, options, Lookup(index, options)
        self._falls_through = any(
            names.is_within(zone, other) or names.is_within(other, zone) for zone in zones for other in fallthrough
        )
        self.stale = False
        """True while the chain has to answer every query, because replies have an extended error."""

    def service(self, name: bytes, at: int, end: int, rtype: int) -> Found:
        """Returns the address records of a Service. See `AnswerSource`."""
        index, options = self._index, self._options
        if self.stale or index.has_odd_names:
            return None
        namespace, label = name[at + 1 : end].decode("latin-1"), name[1:at].decode("latin-1")
        if not index.has_namespace(namespace):
            return self._nonexistent(end)
        service = index.service(namespace, label)
        if service is None:
            return self._nonexistent(at)
        if service.external_name is not None:
            return None
        if options.namespaces and namespace not in options.namespaces:
            return self._nonexistent(0)
        if service.headless:
            return self._endpoints(namespace, label, rtype)
        if not service.ports or (options.ignore_empty_service and not self._has_endpoints(namespace, label)):
            return self._nonexistent(0)
        return _addresses(service.cluster_ips, rtype)

    def name(self, name: bytes, starts: Sequence[int], zone_at: int, rtype: int) -> Found:
        """Returns the address records of any name. See `AnswerSource`."""
        if self.stale or self._index.has_odd_names or name.startswith(apex.NS_LABELS):
            return None
        if not starts:
            return []
        first = name[starts[-1] + 1 : zone_at]
        if first != b"svc":
            if first in _LABELS_OF_SOA:
                return None
            if first != b"pod":
                return self._nonexistent(zone_at)
        elif len(starts) > 2:
            namespace_at = starts[-2]
            namespace = name[namespace_at + 1 : starts[-1]].decode("latin-1")
            if not self._index.has_namespace(namespace):
                return self._nonexistent(starts[-1])
            if self._index.service(namespace, name[starts[-3] + 1 : namespace_at].decode("latin-1")) is None:
                return self._nonexistent(namespace_at)
        try:
            found = self._find(name, zone_at, [])
        except NoSuchNameError:
            return self._nonexistent(0)
        return _addresses([host for host, _, _ in found.host_ports], rtype)

    def dependencies(self, name: bytes, zone_at: int) -> tuple[Dependency, ...]:
        """Returns the objects that the reply for a name depends on."""
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

    def _has_endpoints(self, namespace: str, service: str) -> bool:
        return any(one.endpoints for one in self._index.slices(namespace, service))

    def _nonexistent(self, left: int) -> Found:
        """Returns `left`, the number of octets left of the closest encloser. Returns None if the chain must answer."""
        return None if self._falls_through or not self._index.synced else left


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
