"""Makes names in an external zone, and its SOA, NS and SRV records (docs/behaviour/plugins.md#k8s_external)."""

from __future__ import annotations

import struct
from typing import Final

from svcdns.cluster.objects import Port
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.errors import NameTextError
from svcdns.wire.record import Record

REFRESH: Final = 7200
RETRY: Final = 1800
EXPIRE: Final = 86400
SERVER: Final = b"\x03ns1"
_HOSTMASTER: Final = b"\x0ahostmaster"
_NUMBERS: Final = struct.Struct("!IIIII")
_SRV: Final = struct.Struct("!HHH")


def soa(zone: bytes, apex: bytes, ttl: int, serial: int) -> Record:
    """Returns the SOA record of `zone`.

    `apex` is the value of the option `apex` in wire format, without the root label. `serial` is cut to 32 bits (RFC
    1035 §3.3.13).
    """
    server, hostmaster = SERVER + apex + zone, _HOSTMASTER + apex + zone
    return Record(
        zone, Type.SOA, ttl, server + hostmaster + _NUMBERS.pack(serial & 0xFFFFFFFF, REFRESH, RETRY, EXPIRE, ttl)
    )


def ns(zone: bytes, apex: bytes, ttl: int) -> Record:
    """Returns the only NS record of the zone."""
    return Record(zone, Type.NS, ttl, SERVER + apex + zone)


def srv(owner: bytes, ttl: int, weight: int, port: Port, target: bytes) -> Record:
    """Returns an SRV record (RFC 2782)."""
    return Record(owner, Type.SRV, ttl, _SRV.pack(0, weight, port.number) + target)


def weight_of(entries: int) -> int:
    """Returns the weight of each of `entries` SRV records (docs/behaviour/cluster-names.md#srv-records)."""
    return max(1, int(100.0 / (100 * entries) * 100))


def name_below(text: str, zone: bytes) -> bytes:
    """Returns the wire name of `text` below the zone. Raises NameTextError."""
    name = names.from_text(text)[:-1] + zone
    if len(name) > names.MAX_NAME:
        raise NameTextError(f"name of {len(name)} octets")
    return name
