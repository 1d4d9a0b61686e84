"""Decides which replies, and which of their records, may be cached (docs/behaviour/plugins.md#cache, RFC 2308).

Records made by a plugin of this server are kept as they are. A reply from another server loses every record that does
not answer the query (RFC 2181 §5.4.1, RFC 5452 §6): `without_unrelated_records` states the rules. This module stores
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import NOT_REUSABLE, Reply
from svcdns.plugin_api.reply_type import MessageType, classify
from svcdns.wire import names
from svcdns.wire.codes import TC, Class, Rcode, Type
from svcdns.wire.record import Record
from svcdns.wire.signatures import covered_type, signer
from svcdns.wire.targets import target

NEVER_CACHED: Final = (MessageType.OTHERERROR, MessageType.META, MessageType.UPDATE)
DENIALS: Final = (MessageType.NXDOMAIN, MessageType.NODATA)
PROOFS: Final = frozenset({Type.NSEC, Type.NSEC3})
_LEADING: Final = (Type.SRV, Type.SVCB, Type.HTTPS, Type.CNAME)
"""The types in the additional section whose targets belong to the answer too."""
_WITH_ANSWER: Final = (Type.A, Type.AAAA, *_LEADING)


def message_type(query: Query, reply: Reply) -> MessageType:
    """Returns the type of a reply (docs/behaviour/server.md#kinds-of-replies).

    The type is NODATA if the answer has no record of the queried type and the reply has a SOA record.
    """
    found = classify(query, reply)
    if found == MessageType.NOERROR and reply.answer and _has_soa(reply) and not has_answer(query, reply):
        return MessageType.NODATA
    return found


def is_cacheable(query: Query, reply: Reply, found: MessageType) -> bool:
    """Returns True if a reply of the type `found` may be cached."""
    if found in NEVER_CACHED or reply.flags & TC:
        return False
    if found == MessageType.NXDOMAIN:
        return _has_soa(reply)
    return not (found == MessageType.NOERROR and reply.answer and not has_answer(query, reply))


def is_answer(query: Query, reply: Reply) -> bool:
    """Returns True if the reply is not truncated and answers the query."""
    return not reply.flags & TC and message_type(query, reply) == MessageType.NOERROR and has_answer(query, reply)


def has_answer(query: Query, reply: Reply) -> bool:
    """Returns True for a NOERROR reply with a record of the queried type at the end of its chain of CNAME records.

    If a name has several CNAME records, which RFC 2181 §10.1 forbids, returns False.
    """
    if reply.rcode != Rcode.NOERROR:
        return False
    records = [r for r in reply.answer if query.rclass in (r.rclass, Class.ANY)]
    if query.rtype == Type.ANY:
        return any(record.owner.lower() == query.key for record in records)
    if query.rtype == Type.CNAME:
        return len(_targets(records, query.key)) == 1
    name, passed = query.key, set[bytes]()
    while name not in passed:
        passed.add(name)
        targets = _targets(records, name)
        if not targets:
            return any(record.rtype == query.rtype and record.owner.lower() == name for record in records)
        if len(targets) > 1:
            return False
        name = targets.pop()
    return False


def _targets(records: list[Record], name: bytes) -> set[bytes]:
    return {record.rdata.lower() for record in records if record.rtype == Type.CNAME and record.owner.lower() == name}


def _has_soa(reply: Reply) -> bool:
    return any(record.rtype == Type.SOA for record in reply.authority)


def without_unrelated_records(query: Query, reply: Reply) -> Reply:
    """Returns the reply with only the records that may be cached, or the same object if no record is removed.

    - Answer section: the CNAME records that begin at the query name, and the records of the queried type at the names
      of this chain.
    - Authority section: the SOA record of a negative answer with its DNSSEC proofs (RFC 4035 §3.1.3), or the NS records
      of a referral.
    - Additional section: the addresses of names in the RDATA of kept records (RFC 1035 §3.3). SRV, SVCB, HTTPS and
      CNAME records on the way to such an address are kept, too (RFC 3403 §4.1, RFC 9460 §4.1).
    - A signature (RRSIG) is kept if the records that it signs are kept.
    """
    if reply.lifetime != NOT_REUSABLE:
        return reply
    chain = _alias_chain(query, reply.answer)
    owners, above = frozenset(chain), names.ancestors(chain)
    answer = _filtered(reply.answer, lambda record, rtype: _belongs_to_answer(query, owners, above, record, rtype))
    authority = _authority(above | owners, answer, reply.authority) if reply.authority else ()
    additional = reply.additional
    if additional and not reply.dependencies:  # with dependencies, this server made it from cluster data
        additional = _additional(answer, authority, additional)
    if (answer, authority, additional) == (reply.answer, reply.authority, reply.additional):
        return reply
    return msgspec.structs.replace(reply, answer=answer, authority=authority, additional=additional)


def _alias_chain(query: Query, answer: tuple[Record, ...]) -> list[bytes]:
    """Returns the query name and the targets of its CNAME records, in order and in lower case.

    If a name has several CNAME records, the first is used.
    """
    chain = [query.key]
    if query.rtype in (Type.CNAME, Type.ANY) or all(record.rtype != Type.CNAME for record in answer):
        return chain
    aliases: dict[bytes, bytes] = {}
    for record in answer:
        if record.rtype == Type.CNAME and _in_class(query, record):
            aliases.setdefault(record.owner.lower(), record.rdata.lower())
    while (target := aliases.get(chain[-1])) is not None and target not in chain:
        chain.append(target)
    return chain


def _belongs_to_answer(
    query: Query, owners: AbstractSet[bytes], above: AbstractSet[bytes], record: Record, rtype: int
) -> bool:
    """Returns True if a record of the answer section is part of the answer, or is a CNAME or DNAME record that leads to
    it.

    `owners` are the query name and the targets of its CNAME records. `above` are the ancestors of these names. `rtype`
    is the record's type; for a signature it is the type that the signature covers.
    """
    if not _in_class(query, record):
        return False
    owner = record.owner.lower()
    if rtype == Type.DNAME and query.rtype != Type.DNAME:  # RFC 6672 §3.1: owner above the CNAME's
        return owner in above
    if query.rtype == Type.ANY or record.rtype == query.rtype == Type.RRSIG:
        return owner == query.key
    return rtype in (query.rtype, Type.CNAME) and owner in owners


def _additional(
    records: tuple[Record, ...], authority: tuple[Record, ...], additional: tuple[Record, ...]
) -> tuple[Record, ...]:
    targets = {target(record) for record in records}
    targets.update(target(record) for record in authority if record.rtype == Type.NS)
    leading = [record for record in additional if record.rtype in _LEADING]
    while True:
        more = {target(record) for record in leading if record.owner.lower() in targets} - targets
        if not more:
            break
        targets |= more
    return _filtered(additional, lambda record, rtype: rtype in _WITH_ANSWER and record.owner.lower() in targets)


def _in_class(query: Query, record: Record) -> bool:
    return query.rclass in (record.rclass, Class.ANY)


def _authority(
    zones_above: AbstractSet[bytes], answer: tuple[Record, ...], authority: tuple[Record, ...]
) -> tuple[Record, ...]:
    """Returns the records of the authority section that may be cached.

    `zones_above` are the names in the answer's chain of CNAME records, and their ancestors.
    """
    zones = {
        owner for record in authority if record.rtype == Type.SOA and (owner := record.owner.lower()) in zones_above
    }
    signers = {signer(record) for record in answer if record.rtype == Type.RRSIG}
    zones.update(zone for zone in signers if zone is not None and zone in zones_above)

    def belongs(record: Record, rtype: int) -> bool:
        if rtype == Type.SOA:
            return record.owner.lower() in zones
        if rtype == Type.NS:
            return not answer and not zones and record.owner.lower() in zones_above
        return rtype in PROOFS and any(zone in zones for zone in names.suffixes(record.owner.lower()))

    return _filtered(authority, belongs)


def _filtered(records: tuple[Record, ...], belongs: Callable[[Record, int], bool]) -> tuple[Record, ...]:
    kept = tuple([record for record in records if belongs(record, covered_type(record))])
    return records if len(kept) == len(records) else kept
