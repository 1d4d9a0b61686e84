"""Zone transfer (RFC 5936): all records of an external zone (docs/behaviour/plugins.md#k8s_external).

As in CoreDNS, some records are sent more than once, and namespaces that are not exposed are transferred too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from svcdns.cluster.addresses import rdata_of
from svcdns.cluster.objects import NO_PORT, Port, Service
from svcdns.plugin_api.visibility import Visibility
from svcdns.plugin_api.zone_transfer import UnavailableError, ZoneOffer
from svcdns.plugins.k8s_external import records
from svcdns.plugins.k8s_external.lookup import HostPort, Lookup, endpoints, external
from svcdns.plugins.k8s_external.options import Options
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.errors import NameTextError
from svcdns.wire.record import Record
from svcdns.wire.zone_differences import serial_of


def offer(
    lookup: Lookup,
    options: Options,
    apex: bytes,
    local: tuple[str, ...],
    zone: bytes,
    serial: int,
    visibility: Visibility | None = None,
) -> ZoneOffer:
    """Returns the records of `zone` (lower case), or only the SOA record if `serial` is the current serial.

    Services that the client may not see are left out. Raises UnavailableError until the cluster has been listed once.
    """
    index = lookup.index
    if not index.synced:
        raise UnavailableError("plugin/k8s_external: the cluster has not been listed yet")

    def soa() -> Record:
        return records.soa(zone, apex, options.ttl, index.serials.external)

    def whole() -> Iterator[Iterable[Record]]:
        copy = yield from index.copy()
        own, server = soa(), records.SERVER + apex + zone
        yield own, records.ns(zone, apex, options.ttl)
        writer = _Zone(zone, options.ttl, lookup.options.ttl)
        yield [record for host in lookup.servers(local, [], visibility) for record in writer.address(server, host)]
        headless = []
        for service in copy.services:
            namespace, name = service.namespace.lower(), service.name.lower()
            if visibility is not None and not visibility.shows(namespace, name, []):
                yield ()
                continue
            if options.headless and not service.external_ips and service.headless:
                headless.append((namespace, name, service))
            yield writer.service(service)
        for namespace, name, service in headless:
            host_ports: list[HostPort] = []
            for slice_ in copy.slices.get((namespace, name), ()):
                host_ports += [
                    host_port
                    for _, host_port in endpoints(service, (slice_,), pod_names=lookup.options.endpoint_pod_names)
                ]
                yield ()
            yield writer.headless(service, host_ports)
        yield (own,)

    now = soa()
    return ZoneOffer(now, None if serial and serial >= serial_of(now) else whole())


class _Zone:
    """Makes the records of one zone.

    `ttl` is this plugin's option, and `cluster_ttl` that of *kubernetes*, both in seconds.
    """

    def __init__(self, zone: bytes, ttl: int, cluster_ttl: int) -> None:
        self.zone, self.ttl, self.cluster_ttl = zone, ttl, cluster_ttl

    def service(self, service: Service) -> Iterator[Record]:
        """Yields the records of a Service that is not headless.

        Each external address occurs once for each port. Each port has an SRV record at the Service's name, and one at
        the port's own name.
        """
        seen: set[bytes] = set()
        for host_port in external(service):
            try:
                yield from self._host_port(host_port, seen)
            except NameTextError:
                continue

    def _host_port(self, host_port: HostPort, seen: set[bytes]) -> Iterator[Record]:
        name = records.name_below(host_port.name, self.zone)
        yield from self._host(name, host_port.host)
        target = at_port = name
        if rdata_of(host_port.host) is None:
            target = names.from_text(host_port.host)
            at_port = _stripped(target)
        for owner, leads_to in ((name, target), (self._port_name(host_port.port, host_port.name), at_port)):
            if host_port.port.number != NO_PORT and owner not in seen:
                seen.add(owner)
                yield records.srv(owner, self.cluster_ttl, 100, host_port.port, leads_to)

    def headless(self, service: Service, host_ports: list[HostPort]) -> Iterator[Record]:
        """Yields the records of a headless Service: at its own name, at its endpoints' names, and at its ports'
        names.
        """
        try:
            if host_ports:
                yield from self._group(records.name_below(f"{service.name}.{service.namespace}", self.zone), host_ports)
            for host_port in host_ports:
                yield from self._group(records.name_below(host_port.name, self.zone), [host_port])
            ports: dict[bytes, list[HostPort]] = {}
            for host_port in host_ports:
                if host_port.port.name:
                    ports.setdefault(self._port_name(host_port.port, f"{service.name}.{service.namespace}"), []).append(
                        host_port
                    )
            for owner, group in ports.items():
                yield from self._srv(
                    owner, [(records.name_below(host_port.name, self.zone), host_port.port) for host_port in group]
                )
        except NameTextError:
            return

    def _group(self, name: bytes, host_ports: list[HostPort]) -> Iterator[Record]:
        """Yields the records at one name: IPv4 addresses, IPv6 addresses, CNAME records and SRV records.

        As in CoreDNS, CNAME and SRV records occur twice.
        """
        packed = {host_port.host: rdata_of(host_port.host) for host_port in host_ports}
        for rtype in (Type.A, Type.AAAA):
            seen: set[str] = set()
            for host_port in host_ports:
                address = packed[host_port.host]
                if address is None:
                    yield Record(name, Type.CNAME, self.cluster_ttl, names.from_text(host_port.host))
                elif address[0] == rtype and host_port.host not in seen:
                    seen.add(host_port.host)
                    yield Record(name, rtype, self.ttl, address[1])
        targets = [
            (
                names.from_text(host_port.host)
                if packed[host_port.host] is None
                else records.name_below(host_port.name, self.zone),
                host_port.port,
            )
            for host_port in host_ports
        ]
        yield from self._srv(name, targets)
        yield from self._srv(name, targets)

    def _srv(self, owner: bytes, targets: list[tuple[bytes, Port]]) -> Iterator[Record]:
        weight = records.weight_of(len(targets))
        seen: set[tuple[bytes, int]] = set()
        for target, port in targets:
            if port.number != NO_PORT and (target, port.number) not in seen:
                seen.add((target, port.number))
                yield records.srv(owner, self.cluster_ttl, weight, port, target)

    def address(self, name: bytes, host: str) -> Iterator[Record]:
        """Yields an address record if `host` is an IP address. Yields nothing for a hostname."""
        packed = rdata_of(host)
        if packed is not None:
            yield Record(name, packed[0], self.ttl, packed[1])

    def _host(self, name: bytes, host: str) -> Iterator[Record]:
        if rdata_of(host) is not None:
            yield from self.address(name, host)
            return
        for _ in (Type.A, Type.AAAA):  # CoreDNS looks up each family, and finds the CNAME record both times
            yield Record(name, Type.CNAME, self.cluster_ttl, names.from_text(host))

    def _port_name(self, port: Port, below: str) -> bytes:
        return records.name_below(f"_{port.name}._{port.protocol}.".lower() + below, self.zone)


def _stripped(target: bytes) -> bytes:
    """Returns a hostname without its first two labels, or unchanged if it has at most two labels.

    As in CoreDNS, the targets of SRV records at the names of ports are shortened in this way.
    """
    labels = names.labels_of(target)
    return names.from_labels(labels[2:]) if len(labels) > 2 else target
