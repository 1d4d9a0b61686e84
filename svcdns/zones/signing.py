"""Signs a zone with NSEC (RFC 4035 §2): adds the keys, the NSEC chain, and the signatures of all authoritative RRsets.

Rules:

1. NS records at a zone cut, and all records below a zone cut or a DNAME record, are not signed and get no NSEC record.
   A zone cut has a NSEC record, and its DS records are signed.
2. Address records at the name of a zone cut are glue. CoreDNS signs them, this module does not (RFC 4035 §2.2).
3. DNSSEC records of the unsigned zone are replaced. CoreDNS keeps its NSEC records.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from svcdns.dnssec.keys import SigningKey, ds_rdata
from svcdns.dnssec.signatures import canonical_order_key, canonical_rdata, nsec_rdata, rrsig_rdata
from svcdns.errors import SvcdnsError
from svcdns.wire import names
from svcdns.wire.codes import Class, Type
from svcdns.wire.record import Record

REPLACED: Final = frozenset({Type.RRSIG, Type.NSEC, Type.NSEC3, Type.NSEC3PARAM, Type.DNSKEY, Type.CDNSKEY, Type.CDS})
"""The types of the records that signing adds."""
_DIGESTS: Final = (1, 2)
"""The digest types of the CDS records: SHA-1 and SHA-256, as in CoreDNS."""
_AT_CUT: Final = frozenset({Type.NS, Type.DS})
_SIGNED_AT_CUT: Final = frozenset({Type.DS})


class UnsignableError(SvcdnsError):
    """Raised if a zone cannot be signed."""


@dataclass(frozen=True, slots=True)
class Period:
    """The time for which signatures are valid, in Unix seconds."""

    inception: int
    expiration: int


class _RRset(NamedTuple):
    """The TTL and the distinct RDATA of the records with one owner and type."""

    ttl: int
    rdatas: tuple[bytes, ...]


class _Name(NamedTuple):
    """A name with records. `signed` has the types that are signed; None if the name is not authoritative.

    `listed` has the types of the name's NSEC record, without RRSIG and NSEC.
    """

    owner: bytes
    rrsets: dict[int, _RRset]
    signed: frozenset[int] | None
    listed: frozenset[int]


def signed_zone(
    records: Iterable[Record], apex: bytes, keys: Sequence[SigningKey], period: Period, serial: int
) -> Iterator[list[Record]]:
    """Yields the records of the signed zone, a list for each name in canonical order. Raises UnsignableError.

    `apex` is the zone's name in lower case, and the name of the keys. Owner names become lower case. The SOA record is
    the first record, and gets the serial `serial`. The TTL of an RRset is the lowest TTL of its records.
    """
    rrsets = _rrsets(records, apex)
    soa = rrsets.get(apex, {}).get(Type.SOA)
    if soa is None:
        raise UnsignableError(f"no SOA record for {names.to_text(apex)}")
    rdata = soa.rdatas[-1]
    rrsets[apex][Type.SOA] = soa = _RRset(soa.ttl, (rdata[:-20] + struct.pack("!I", serial) + rdata[-16:],))
    rrsets[apex] |= _key_rrsets(keys, soa.ttl)
    minimum = int.from_bytes(rdata[-4:], "big")
    found = list(_in_order(rrsets, apex))
    chain = [one.owner for one in found if one.signed is not None]
    following = dict(zip(chain, [*chain[1:], apex], strict=True))
    for name in found:
        yield list(_signed_name(name, following.get(name.owner), minimum, apex, keys, period))


def _rrsets(records: Iterable[Record], apex: bytes) -> dict[bytes, dict[int, _RRset]]:
    out: dict[bytes, dict[int, _RRset]] = {}
    for record in records:
        owner, rtype = record.owner.lower(), record.rtype
        if rtype in REPLACED or not names.is_within(owner, apex) or (rtype == Type.SOA and owner != apex):
            continue
        node = out.setdefault(owner, {})
        before = node.get(rtype)
        if before is None:
            node[rtype] = _RRset(record.ttl, (record.rdata,))
        else:
            node[rtype] = _RRset(min(before.ttl, record.ttl), (*before.rdatas, record.rdata))
    for node in out.values():
        for rtype, rrset in node.items():
            if len(rrset.rdatas) > 1 and rtype != Type.SOA:
                distinct: dict[bytes, bytes] = {}
                for rdata in rrset.rdatas:
                    distinct.setdefault(canonical_rdata(rtype, rdata), rdata)
                node[rtype] = _RRset(rrset.ttl, tuple(distinct.values()))
    return out


def _key_rrsets(keys: Sequence[SigningKey], ttl: int) -> dict[int, _RRset]:
    if not keys:
        return {}
    public = tuple(key.rdata for key in keys)
    digests = tuple(ds_rdata(key, digest) for key in keys for digest in _DIGESTS)
    return {Type.DNSKEY: _RRset(ttl, public), Type.CDNSKEY: _RRset(ttl, public), Type.CDS: _RRset(ttl, digests)}


def _in_order(rrsets: dict[bytes, dict[int, _RRset]], apex: bytes) -> Iterator[_Name]:
    """Yields all names in canonical order (RFC 4034 §6.1)."""
    occluding: bytes | None = None
    for owner in sorted(rrsets, key=canonical_order_key):
        node = rrsets[owner]
        types = frozenset(node)
        if occluding is not None and names.is_within(owner, occluding):
            yield _Name(owner, node, None, frozenset())
        elif Type.NS in node and owner != apex:
            occluding = owner
            yield _Name(owner, node, types & _SIGNED_AT_CUT, types & _AT_CUT)
        else:
            occluding = owner if Type.DNAME in node else None
            yield _Name(owner, node, types, types)


def _signed_name(
    name: _Name, following: bytes | None, minimum: int, apex: bytes, keys: Sequence[SigningKey], period: Period
) -> Iterator[Record]:
    """Yields the records of a name, each RRset before its signatures.

    `following` is the next name of the NSEC chain; None if `name` is not authoritative.
    """
    rrsets, signed = name.rrsets, name.signed or frozenset()
    if following is not None:
        nsec = _RRset(minimum, (nsec_rdata(following, name.listed | {Type.RRSIG, Type.NSEC}),))
        rrsets, signed = {**rrsets, Type.NSEC: nsec}, signed | {Type.NSEC}
    for rtype in sorted(rrsets, key=lambda one: (one != Type.SOA, one)):
        ttl, rdatas = rrsets[rtype]
        for rdata in rdatas:
            yield Record(name.owner, rtype, ttl, rdata)
        if rtype in signed:
            for key in keys:
                signature = rrsig_rdata(
                    name.owner, rtype, Class.IN, ttl, rdatas, key,
                    inception=period.inception, expiration=period.expiration, signer=apex,
                )  # fmt: skip
                yield Record(name.owner, Type.RRSIG, ttl, signature)
