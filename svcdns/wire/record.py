"""A resource record and an OPT record as frozen values. All names, also in RDATA, are uncompressed."""

from __future__ import annotations

import msgspec

from svcdns.wire.codes import Class


class Record(msgspec.Struct, frozen=True, gc=False):
    """A resource record (RFC 1035 §3.2.1). Owner name and RDATA are in wire format. The TTL is in seconds."""

    owner: bytes
    rtype: int
    ttl: int
    rdata: bytes
    rclass: int = Class.IN


class Edns(msgspec.Struct, frozen=True, gc=False):
    """An OPT record (RFC 6891 §6.1).

    `size` is the UDP payload size in octets. `dnssec_ok` is the DO bit. `options` has pairs of code and data.
    """

    size: int = 4096
    dnssec_ok: bool = False
    version: int = 0
    options: tuple[tuple[int, bytes], ...] = ()
