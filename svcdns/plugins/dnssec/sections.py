"""The sections of a signed reply (docs/plugins/dnssec.md).

The rules for which RRsets are signed are CoreDNS's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.reply_type import MessageType, classify
from svcdns.plugins.dnssec.denial import nsec
from svcdns.plugins.dnssec.signer import Batch
from svcdns.wire.codes import Rcode, Type
from svcdns.wire.record import Record

_UNSIGNED: Final = frozenset({Type.RRSIG, Type.OPT})
_DENIALS: Final = frozenset({MessageType.NXDOMAIN, MessageType.NODATA})

ZoneOf = Callable[[bytes], bytes | None]
"""Returns the signed zone of a name, or None if the name is in none."""


def signed(query: Query, reply: Reply, zone: bytes, zone_of: ZoneOf, batch: Batch) -> Reply:
    """Returns the reply with signatures. `zone` is the signed zone of the query name."""
    kind = classify(query, reply)
    if kind is MessageType.DELEGATION:
        return _delegation(query, reply, zone, batch)
    if kind in _DENIALS:
        return _denial(query, reply, zone, batch, kind)
    return msgspec.structs.replace(
        reply,
        answer=_section(reply.answer, zone_of, batch),
        authority=_section(reply.authority, zone_of, batch),
        additional=_section(reply.additional, zone_of, batch),
    )


def _section(records: tuple[Record, ...], zone_of: ZoneOf, batch: Batch) -> tuple[Record, ...]:
    """Returns the records, followed by the signatures of all RRsets that are in signed zones.

    The records may already include signatures, if this server has answered for the target of a CNAME record.
    """
    rrsets: dict[tuple[bytes, int], list[Record]] = {}
    there: set[bytes] = set()
    for record in records:
        if record.rtype in _UNSIGNED:
            there.add(record.rdata)
        else:
            rrsets.setdefault((record.owner, record.rtype), []).append(record)
    out = list(records)
    for (owner, _), rrset in rrsets.items():
        signer = zone_of(owner.lower())
        if signer is not None:
            out += [made for made in batch.sign(rrset, signer, rrset[0].ttl) if made.rdata not in there]
    return tuple(out)


def _delegation(query: Query, reply: Reply, zone: bytes, batch: Batch) -> Reply:
    """Returns a referral with the signature of its DS records, or with a NSEC record that denies them."""
    ttl = reply.authority[0].ttl
    ds = [record for record in reply.authority if record.rtype == Type.DS]
    proof = batch.sign(ds, zone, ttl) if ds else _nsec(query, zone, ttl, MessageType.DELEGATION, batch)
    return msgspec.structs.replace(reply, authority=(*reply.authority, *proof))


def _denial(query: Query, reply: Reply, zone: bytes, batch: Batch, kind: MessageType) -> Reply:
    """Returns a NODATA reply with a NSEC record. A reply whose authority section is not one SOA record is unchanged."""
    if len(reply.authority) != 1 or reply.authority[0].rtype != Type.SOA:
        return reply
    ttl = reply.authority[0].ttl
    soa = (*reply.authority, *batch.sign(reply.authority, zone, ttl))
    proof = tuple(_nsec(query, zone, ttl, kind, batch))
    if query.rtype == Type.NSEC:
        return msgspec.structs.replace(reply, rcode=Rcode.NOERROR, answer=proof, authority=())
    return msgspec.structs.replace(reply, rcode=Rcode.NOERROR, authority=soa + proof)


def _nsec(query: Query, zone: bytes, ttl: int, kind: MessageType, batch: Batch) -> Sequence[Record]:
    record = nsec(query, zone, ttl, kind)
    return (*batch.sign((record,), zone, ttl), record)
