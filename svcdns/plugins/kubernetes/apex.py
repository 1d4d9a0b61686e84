"""The SOA and NS records of a zone, and the names of its name servers (docs/behaviour/cluster-names.md#zone-apex)."""

from __future__ import annotations

import struct
from typing import Final

from svcdns.cluster.addresses import endpoint_name
from svcdns.cluster.changes import Dependency
from svcdns.cluster.index import Index
from svcdns.plugins.kubernetes.lookup import HostPort
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record import Record

REFRESH: Final = 7200
RETRY: Final = 1800
EXPIRE: Final = 86400
MAX_SOA_TTL: Final = 300
NS_LABELS: Final = b"\x02ns\x03dns"
HOSTMASTER: Final = b"\x0ahostmaster"
_NUMBERS: Final = struct.Struct("!IIIII")


def soa(zone: bytes, ttl: int, serial: int) -> Record:
    """The SOA record of `zone`, which is spelled as in the query. `serial` is cut to 32 bits (RFC 1035 §3.3.13)."""
    rdata = NS_LABELS + zone + HOSTMASTER + zone + _NUMBERS.pack(serial & 0xFFFFFFFF, REFRESH, RETRY, EXPIRE, ttl)
    return Record(zone, Type.SOA, min(ttl, MAX_SOA_TTL), rdata)


def is_server_name(key: bytes, zone: bytes) -> bool:
    """Whether a name in lower case is `ns.dns` in the zone, which is spelled as in the query.

    As in CoreDNS, the zone's text must follow directly after `ns.dns.`, and more labels may follow after it: a search
    list makes such names. A zone spelled with an upper-case letter has no such name, and neither has the root zone.
    """
    return key.startswith(NS_LABELS) and names.to_text(key).find(names.to_text(zone)) == len("ns.dns.")


def servers(
    index: Index, local_addresses: tuple[str, ...], dependencies: list[Dependency], *, pod_names: bool
) -> list[tuple[HostPort, str]]:
    """The name servers: hosts and ports, each with its object's name below the zone.

    A name server is a Service with an endpoint at one of this machine's addresses. Without such an EndpointSlice, the
    machine's addresses themselves are the name server `ns.dns`.
    """
    out: list[tuple[HostPort, str]] = []
    seen = False
    for local in local_addresses:
        dependencies.append(("address", local))
        for slice_ in index.slices_at(local):
            seen = True
            key = slice_.namespace.lower(), slice_.service.lower()
            dependencies += [("service", *key), ("endpoints", *key)]
            service = index.service(*key)
            if service is None:
                continue
            base = f"{service.name}.{service.namespace}.svc"
            if service.headless:
                out += [
                    ((e.address, 0, endpoint_name(e.address, e.hostname, e.target, pod_names=pod_names)), base)
                    for e in slice_.endpoints
                ]
            else:
                out += [((address, 0, ""), base) for address in service.cluster_ips]
    if not seen:
        out = [((address, 0, ""), "ns.dns") for address in local_addresses]
    return out


def name_below(base: str, label: str, zone: bytes) -> bytes:
    """The wire name of an object, or of an endpoint of it, in the zone as spelled. Raises NameTextError."""
    return names.from_text(f"{label}.{base}" if label else base)[:-1] + zone
