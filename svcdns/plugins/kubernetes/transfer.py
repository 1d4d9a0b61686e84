"""Zone transfer (RFC 5936): all records of a cluster zone (docs/behaviour/kubernetes.md#zone-transfer).

As in CoreDNS, a client may name any domain inside a configured zone. The client then gets the cluster's records below
this name. Pods, `dns-version`, PTR records, zonal names, and namespaces that are not exposed are not transferred.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeVar

from svcdns.cluster.addresses import endpoint_name, rdata_of
from svcdns.cluster.consistent_copy import ClusterCopy
from svcdns.cluster.index import Index
from svcdns.cluster.objects import Endpoint, EndpointSlice, ImportedSlice, Port, Service, ServiceImport
from svcdns.cluster.secondary_index import LoweredName
from svcdns.plugin_api.visibility import Visibility
from svcdns.plugin_api.zone_transfer import UnavailableError, ZoneOffer, in_order
from svcdns.plugins.kubernetes import apex
from svcdns.plugins.kubernetes.options import Options
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.errors import NameTextError
from svcdns.wire.names import ROOT
from svcdns.wire.record import Record
from svcdns.wire.zone_differences import serial_of

_Slice = TypeVar("_Slice", EndpointSlice, ImportedSlice)
_SRV: Final = struct.Struct("!HHH")
WEIGHT: Final = 100
SERVER_TTL: Final = 0
"""The TTL of the addresses of name servers in a transfer, in seconds, as in CoreDNS."""


def offer(
    index: Index,
    options: Options,
    local: tuple[str, ...],
    zone: bytes,
    serial: int,
    *,
    multicluster: bool,
    visibility: Visibility | None = None,
) -> ZoneOffer:
    """Returns the records of `zone` (lower case), or only the SOA record if `serial` is the current serial.

    Services that the client may not see are left out. Raises UnavailableError until the cluster has been listed once.
    """
    if not index.synced:
        raise UnavailableError("plugin/kubernetes: the cluster has not been listed yet")

    def soa() -> Record:
        return apex.soa(zone, options.ttl, index.serials.multicluster if multicluster else index.serials.ordinary)

    def whole() -> Iterator[Iterable[Record]]:
        writer = _Zone(zone, options, (yield from index.copy()), visibility)
        own, servers = (soa(),), tuple(writer.servers(index, local))
        yield own
        yield servers
        yield from writer.imports() if multicluster else writer.services()
        yield own

    now = soa()
    return ZoneOffer(now, None if serial and serial == serial_of(now) else whole())


class _Zone:
    """Makes the records of one zone from a consistent copy of the index."""

    def __init__(self, zone: bytes, options: Options, copy: ClusterCopy, visibility: Visibility | None) -> None:
        self.zone, self.options, self.copy, self.ttl = zone, options, copy, options.ttl
        self.visibility = visibility

    def servers(self, index: Index, local: tuple[str, ...]) -> Iterator[Record]:
        pod_names = self.options.endpoint_pod_names
        found = apex.servers(index, local, [], pod_names=pod_names, visibility=self.visibility)
        addresses_by_name = [
            (apex.name_below(base, label, self.zone), rdata_of(host)) for (host, _, label), base in found
        ]
        for name in dict.fromkeys(name for name, _ in addresses_by_name):
            yield Record(self.zone, Type.NS, self.ttl, name)
        for name, address in addresses_by_name:
            if address is not None:
                yield Record(name, address[0], SERVER_TTL, address[1])

    def services(self) -> Iterator[Iterable[Record]]:
        for service in in_order(self.copy.services, _by_name):
            if service is None or not self._exposed(service):
                yield ()
            elif service.external_name is not None:
                yield self._alias(service, service.external_name)
            elif service.cluster_ips and rdata_of(service.cluster_ips[0]) is not None:
                yield self._fixed(service, service.cluster_ips)
            else:
                yield from self._endpoints(service, self.copy.slices)

    def imports(self) -> Iterator[Iterable[Record]]:
        """Yields the records of each ServiceImport.

        As in CoreDNS, the names of its endpoints do not contain the cluster ID.
        """
        for imported in in_order(self.copy.imports, _by_name):
            if imported is None or not self._exposed(imported):
                yield ()
            elif imported.ips and rdata_of(imported.ips[0]) is not None:
                yield self._fixed(imported, imported.ips)
            else:
                yield from self._endpoints(imported, self.copy.imported)

    def _exposed(self, service: Service | ServiceImport) -> bool:
        wanted, lowered = self.options.namespaces, service.namespace.lower()
        if lowered not in self.copy.namespaces or (wanted and lowered not in wanted):
            return False
        return self.visibility is None or self.visibility.shows(lowered, service.name.lower(), [])

    def _name(self, service: Service | ServiceImport, *labels: str) -> bytes:
        """Returns the DNS name of an object.

        If `labels` are given, they are put in front of this name. Raises NameTextError.
        """
        name = names.from_text(".".join((*labels, service.name, service.namespace, "svc")))[:-1] + self.zone
        if len(name) > names.MAX_NAME:
            raise NameTextError(f"name of {len(name)} octets")
        return name

    def _alias(self, service: Service, target: str) -> Iterator[Record]:
        if rdata_of(target) is None:
            try:
                yield Record(self._name(service), Type.CNAME, self.ttl, names.from_text(target))
            except NameTextError:
                return

    def _fixed(self, service: Service | ServiceImport, addresses: tuple[str, ...]) -> Iterator[Record]:
        """Yields the address and SRV records of a Service that has IP addresses of its own.

        Each port has an SRV record at the Service's name. A named port has another one at the port's name.
        """
        try:
            name = self._name(service)
            for address in addresses:
                yield from self._address(name, address)
            target = name if rdata_of(addresses[-1]) is not None else ROOT
            for port in service.ports:
                yield self._srv(name, WEIGHT, port, target)
                if port.name:
                    yield self._srv(self._port_name(service, port), WEIGHT, port, target)
        except NameTextError:
            return

    def _endpoints(
        self, service: Service | ServiceImport, slices: Mapping[LoweredName, tuple[_Slice, ...]]
    ) -> Iterator[Iterable[Record]]:
        for slice_ in slices.get((service.namespace.lower(), service.name.lower()), ()):
            weight = max(1, int(100.0 / (100 * max(1, len(slice_.endpoints))) * 100))
            for endpoint in slice_.endpoints:
                yield self._endpoint(service, endpoint, slice_.ports, weight)
        yield ()

    def _endpoint(
        self, service: Service | ServiceImport, endpoint: Endpoint, ports: tuple[Port, ...], weight: int
    ) -> Iterator[Record]:
        """Yields the records of an endpoint.

        There are address records at the names of the Service and of the endpoint, and an SRV record for each named
        port.
        """
        label = endpoint_name(
            endpoint.address, endpoint.hostname, endpoint.target, pod_names=self.options.endpoint_pod_names
        )
        try:
            yield from self._address(self._name(service), endpoint.address)
            name = self._name(service, *filter(None, (label,)))
            yield from self._address(name, endpoint.address)
            target = name if rdata_of(endpoint.address) is not None else ROOT
            for port in ports:
                if port.name:
                    yield self._srv(self._port_name(service, port), weight, port, target)
        except NameTextError:
            return

    def _port_name(self, service: Service | ServiceImport, port: Port) -> bytes:
        return self._name(service, f"_{port.name}".lower(), f"_{port.protocol}".lower())

    def _address(self, name: bytes, address: str) -> Iterator[Record]:
        packed = rdata_of(address)
        if packed is not None:
            yield Record(name, packed[0], self.ttl, packed[1])

    def _srv(self, name: bytes, weight: int, port: Port, target: bytes) -> Record:
        return Record(name, Type.SRV, self.ttl, _SRV.pack(0, weight, port.number & 0xFFFF) + target)


def _by_name(item: Service | ServiceImport) -> tuple[str, ...]:
    return item.name, item.namespace
