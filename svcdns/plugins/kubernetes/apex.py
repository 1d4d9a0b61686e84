"""The SOA and NS records of a zone, and the names of its name servers (docs/behaviour/cluster-names.md#zone-apex)."""

from __future__ import annotations

import struct
from typing import Final

from svcdns.cluster.addresses import endpoint_name
from svcdns.cluster.changes import Dependency
from svcdns.cluster.index import Index
from svcdns.plugin_api.visibility import Visibility
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
    """Returns the SOA record of `zone`, which is spelled as in the query.

    `serial` is cut to 32 bits (RFC 1035 §3.3.13).
    """
    rdata = NS_LABELS + zone + HOSTMASTER + zone + _NUMBERS.pack(serial & 0xFFFFFFFF, REFRESH, RETRY, EXPIRE, ttl)
    return Record(zone, Type.SOA, min(ttl, MAX_SOA_TTL), rdata)


def is_server_name(key: bytes, zone: bytes) -> bool:
    """Returns True if the lower-case name `key` begins with `ns.dns` and the zone. More labels may follow, as in
    CoreDNS.

    `zone` has the letter case of the query. If `zone` has an upper-case letter, or is the root zone, the result is
    False.
    """
    return key.startswith(NS_LABELS) and names.to_text(key).find(names.to_text(zone)) == len("ns.dns.")


def servers(
    index: Index,
    local_addresses: tuple[str, ...],
    dependencies: list[Dependency],
    *,
    pod_names: bool,
    visibility: Visibility | None = None,
) -> list[tuple[HostPort, str]]:
    """Returns the zone's name servers: each has an address with port, and the name of its object relative to the zone.

    The name servers are the Services with an endpoint at one of this machine's addresses. If there is no such endpoint,
    the name server is `ns.dns` with the machine's addresses. Services that the client may not see are ignored.
    """
    out: list[tuple[HostPort, str]] = []
    seen = False
    for local in local_addresses:
        dependencies.append(("address", local))
        for slice_ in index.slices_at(local):
            key = slice_.namespace.lower(), slice_.service.lower()
            if visibility is not None and not visibility.shows(*key, dependencies):
                continue
            seen = True
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
    """Returns the wire name of `label.base` below `zone`, or of `base` below `zone` if `label` is empty.

    The letter case of `zone` is kept. Raises NameTextError.
    """
    return names.from_text(f"{label}.{base}" if label else base)[:-1] + zone
