"""A resource record and an OPT record as frozen values. Names are uncompressed, in RDATA too."""

from __future__ import annotations

import msgspec

from svcdns.wire.codes import Class


class Record(msgspec.Struct, frozen=True, gc=False):
    """A resource record: owner name and RDATA in wire format, TTL in seconds (RFC 1035 §3.2.1)."""

    owner: bytes
    rtype: int
    ttl: int
    rdata: bytes
    rclass: int = Class.IN


class Edns(msgspec.Struct, frozen=True, gc=False):
    """An OPT record (RFC 6891 §6.1): UDP payload size in octets, DO bit, version, options as (code, data)."""

    size: int = 4096
    dnssec_ok: bool = False
    version: int = 0
    options: tuple[tuple[int, bytes], ...] = ()
