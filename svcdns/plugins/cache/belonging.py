"""What of a reply may be kept: the records that answer its question, and nothing else that an upstream has put beside them.

Rules, for replies that came from elsewhere: of the answer section the aliases that lead from the question, and the asked type at their
end; of the authority section the SOA of a denial, with the proofs of DNSSEC for it (RFC 4035 §3.1.3), or the NS of a referral; of the
additional section nothing (RFC 2181 §5.4.1). A record belongs only if its owner lies on that way, or in a zone above it (RFC 5452 §6).
Signatures (RRSIG) go with what they cover. What plugins of this server have made is as its operator wants it, and is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import NOT_REUSABLE, Reply
from svcdns.wire import names
from svcdns.wire.codes import Class, Type
from svcdns.wire.errors import FormError
from svcdns.wire.record import Record

PROOFS: Final = frozenset({Type.NSEC, Type.NSEC3})
_SIGNER: Final = 18
"""Octets before the signer's name in the RDATA of a RRSIG, RFC 4034 §3.1."""


def of_the_question(query: Query, reply: Reply) -> Reply:
    """The reply without the records that do not belong; the same object where all do."""
    if reply.lifetime != NOT_REUSABLE:
        return reply
    way = _way(query, reply.answer)
    answer = _kept(reply.answer, lambda record, rtype: _answers(query, way, record, rtype))
    authority = _authority(way, answer, reply.authority) if reply.authority else ()
    additional = reply.additional if reply.dependencies else ()  # with an owner it was put together here, from what the cluster says
    if (answer, authority, additional) == (reply.answer, reply.authority, reply.additional):
        return reply
    return msgspec.structs.replace(reply, answer=answer, authority=authority, additional=additional)


def _way(query: Query, answer: tuple[Record, ...]) -> list[bytes]:
    """The names from the question on to where its aliases lead, lowered. Of several aliases of one name the first counts."""
    way = [query.key]
    if query.rtype in (Type.CNAME, Type.ANY) or all(record.rtype != Type.CNAME for record in answer):
        return way
    aliases: dict[bytes, bytes] = {}
    for record in answer:
        if record.rtype == Type.CNAME and _in_class(query, record):
            aliases.setdefault(record.owner.lower(), record.rdata.lower())
    while (target := aliases.get(way[-1])) is not None and target not in way:
        way.append(target)
    return way


def _answers(query: Query, way: list[bytes], record: Record, rtype: int) -> bool:
    """Whether a record of the answer section, of that type or a signature over it, leads to the answer or is it."""
    if not _in_class(query, record):
        return False
    owner = record.owner.lower()
    if rtype == Type.DNAME and query.rtype != Type.DNAME:  # RFC 6672 §3.1: stands above the aliases that were made of it
        return any(owner != name and names.is_within(name, owner) for name in way)
    if query.rtype == Type.ANY or record.rtype == query.rtype == Type.RRSIG:
        return owner == way[0]
    if rtype == query.rtype:
        return owner == way[-1]
    return rtype == Type.CNAME and owner in way


def _in_class(query: Query, record: Record) -> bool:
    return query.rclass in (record.rclass, Class.ANY)


def _authority(way: list[bytes], answer: tuple[Record, ...], authority: tuple[Record, ...]) -> tuple[Record, ...]:
    zones = {record.owner.lower() for record in authority if record.rtype == Type.SOA and _is_above(record.owner, way)}
    signers = {_signer(record) for record in answer if record.rtype == Type.RRSIG}
    zones.update(signer for signer in signers if signer is not None and _is_above(signer, way))

    def belongs(record: Record, rtype: int) -> bool:
        if rtype == Type.SOA:
            return record.owner.lower() in zones
        if rtype == Type.NS:
            return not answer and not zones and _is_above(record.owner, way)
        return rtype in PROOFS and any(names.is_within(record.owner.lower(), zone) for zone in zones)

    return _kept(authority, belongs)


def _is_above(owner: bytes, way: list[bytes]) -> bool:
    return any(names.is_within(name, owner.lower()) for name in way)


def _signer(record: Record) -> bytes | None:
    """The zone that signed, lowered; None where the record is malformed."""
    try:
        return names.read_name(record.rdata, _SIGNER)[0].lower()
    except FormError:
        return None


def _kept(records: tuple[Record, ...], belongs: Callable[[Record, int], bool]) -> tuple[Record, ...]:
    kept = tuple([record for record in records if belongs(record, _covered(record))])
    return records if len(kept) == len(records) else kept


def _covered(record: Record) -> int:
    """The type of a record, of a signature that which it covers."""
    return int.from_bytes(record.rdata[:2], "big") if record.rtype == Type.RRSIG else record.rtype
