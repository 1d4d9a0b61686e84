"""The zone's own records: SOA, NS, and how the server finds itself in the cluster (spec K13)."""

from __future__ import annotations

import struct
from typing import Final

from svcdns.cluster.addresses import endpoint_name
from svcdns.cluster.changes import Dependency
from svcdns.cluster.index import Index
from svcdns.plugins.kubernetes.lookup import Entry
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
    """The SOA record of a zone, given as it was spelled in the query."""
    rdata = NS_LABELS + zone + HOSTMASTER + zone + _NUMBERS.pack(serial & 0xFFFFFFFF, REFRESH, RETRY, EXPIRE, ttl)
    return Record(zone, Type.SOA, min(ttl, MAX_SOA_TTL), rdata)


def is_server_name(key: bytes, zone: bytes) -> bool:
    """Whether a lowered name is the name servers' own, `ns.dns` in the zone as it was spelled.

    CoreDNS looks for the zone's text right behind `ns.dns.`, not for the end of the name: so a name that goes on behind it is one
    too (a search list makes such names), a zone spelled with upper case has none, and the root zone has none.
    """
    return key.startswith(NS_LABELS) and names.to_text(key).find(names.to_text(zone)) == len("ns.dns.")


def servers(index: Index, local_addresses: tuple[str, ...], dependencies: list[Dependency], *, pod_names: bool) -> list[tuple[Entry, str]]:
    """The name servers: entries as of a lookup, each with its object's name below the zone.

    They are the Services whose endpoints hold one of this machine's addresses; without any such slice, the addresses
    themselves as `ns.dns`.
    """
    out: list[tuple[Entry, str]] = []
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
                    ((e.address, 0, endpoint_name(e.address, e.hostname, e.target, pod_names=pod_names)), base) for e in slice_.endpoints
                ]
            else:
                out += [((address, 0, ""), base) for address in service.cluster_ips]
    if not seen:
        out = [((address, 0, ""), "ns.dns") for address in local_addresses]
    return out


def name_below(base: str, label: str, zone: bytes) -> bytes:
    """The wire name of an object, or of an endpoint of it, in the zone as spelled. Raises NameTextError."""
    return names.from_text(f"{label}.{base}" if label else base)[:-1] + zone
