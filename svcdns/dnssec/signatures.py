"""RRSIG and NSEC records, and the canonical forms that they are made of (RFC 4034 §3, §4, §6)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from svcdns.dnssec.keys import SigningKey
from svcdns.wire import names
from svcdns.wire.codes import Type

_FIXED: Final = struct.Struct("!HBBIIIH")
_RECORD: Final = struct.Struct("!HHIH")
_WILDCARD: Final = b"\x01*"


class _Names(NamedTuple):
    """The place of names in the RDATA of a type: after `octets` octets and `strings` character strings."""

    octets: int = 0
    strings: int = 0
    names: int = 1


_NAMES: Final = {
    **dict.fromkeys((Type.NS, Type.MD, Type.MF, Type.CNAME, Type.MB, Type.MG, Type.MR, Type.PTR, Type.DNAME), _Names()),
    **dict.fromkeys((Type.SOA, Type.MINFO, Type.RP), _Names(names=2)),
    **dict.fromkeys((Type.MX, Type.AFSDB, Type.RT, Type.KX), _Names(2)),
    **dict.fromkeys((Type.SIG, Type.RRSIG), _Names(18)),
    Type.PX: _Names(2, names=2),
    Type.NXT: _Names(),
    Type.SRV: _Names(6),
    Type.NAPTR: _Names(4, 3),
}
"""The types whose RDATA has names in lower case in the canonical form (RFC 4034 §6.2, RFC 6840 §5.1)."""


def canonical_rdata(rrtype: int, rdata: bytes) -> bytes:
    """Returns RDATA in canonical form: with its names in lower case, if the type is one of RFC 4034 §6.2.

    RDATA that ends before its names is returned unchanged.
    """
    place = _NAMES.get(rrtype)
    if place is None:
        return rdata
    at = start = place.octets
    try:
        for _ in range(place.strings):
            start = at = at + 1 + rdata[at]
        for _ in range(place.names):
            while length := rdata[at]:
                at += 1 + length
            at += 1
    except IndexError:
        return rdata
    return rdata[:start] + rdata[start:at].lower() + rdata[at:]


def canonical_order_key(name: bytes) -> list[bytes]:
    """Returns the sort key of a wire name for the canonical order of names (RFC 4034 §6.1)."""
    return names.labels_of(name.lower())[::-1]


def type_bitmap(types: Iterable[int]) -> bytes:
    """Returns the type bit maps of a NSEC record (RFC 4034 §4.1.2)."""
    return _bitmap(frozenset(types))


@lru_cache(maxsize=256)
def _bitmap(types: frozenset[int]) -> bytes:
    windows: dict[int, bytearray] = {}
    for number in sorted(types):
        window = windows.setdefault(number >> 8, bytearray())
        octet = number >> 3 & 31
        window.extend(bytes(octet + 1 - len(window)))
        window[octet] |= 0x80 >> (number & 7)
    return b"".join(bytes((number, len(window))) + window for number, window in windows.items())


def nsec_rdata(next_name: bytes, types: Iterable[int]) -> bytes:
    """Returns the RDATA of a NSEC record (RFC 4034 §4.1). The letter case of `next_name` is kept (RFC 6840 §5.1)."""
    return next_name + type_bitmap(types)


def rrsig_rdata(
    owner: bytes,
    rrtype: int,
    rrclass: int,
    ttl: int,
    rdatas: Sequence[bytes],
    key: SigningKey,
    *,
    inception: int,
    expiration: int,
    labels: int | None = None,
    signer: bytes | None = None,
) -> bytes:
    """Signs an RRset, and returns the RDATA of the RRSIG record (RFC 4034 §3.1).

    `owner` is a wire name, and `rdatas` has the RDATA of each record. `ttl` becomes the original TTL. `inception` and
    `expiration` are Unix seconds. `labels` is the label count of the wildcard that the records come from; None counts
    the labels of `owner`. `signer` is the zone; None means the name of `key`.
    """
    owner = owner.lower()
    if labels is None:
        labels = _labels(owner)
    elif labels < _labels(owner):
        owner = _WILDCARD + names.suffixes(owner)[-1 - labels]
    head = _FIXED.pack(rrtype, key.algorithm, labels, ttl, expiration & 0xFFFFFFFF, inception & 0xFFFFFFFF, key.tag) + (
        key.name if signer is None else signer.lower()
    )
    data = [head]
    found = [canonical_rdata(rrtype, rdata) for rdata in rdatas]
    for rdata in sorted(set(found)) if len(found) > 1 else found:
        data += (owner, _RECORD.pack(rrtype, rrclass, ttl, len(rdata)), rdata)
    return head + key.sign(b"".join(data))


def _labels(owner: bytes) -> int:
    """Returns the value of the field Labels for an owner name: without the root and the label `*` (RFC 4034 §3.1.3)."""
    return len(names.labels_of(owner)) - owner.startswith(_WILDCARD)
