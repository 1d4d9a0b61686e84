"""What a reply is to the cache: its kind, whether it answers, and whether it may be kept
(docs/behaviour/plugins.md#cache, RFC 2308).

An answer whose CNAMEs do not lead to the asked type is a denial if it has a SOA, and nothing that can be kept if it has none.
"""

from __future__ import annotations

from typing import Final

from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.reply_type import MessageType, classify
from svcdns.wire.codes import TC, Class, Rcode, Type
from svcdns.wire.record import Record

UNSTORED: Final = (MessageType.OTHERERROR, MessageType.META, MessageType.UPDATE)
DENIALS: Final = (MessageType.NXDOMAIN, MessageType.NODATA)


def kind_of(query: Query, reply: Reply) -> MessageType:
    """The type of docs/behaviour/server.md#kinds-of-replies, but NODATA for a chain of CNAMEs that ends in nothing."""
    kind = classify(query, reply)
    if kind == MessageType.NOERROR and reply.answer and _has_soa(reply) and not answers(query, reply):
        return MessageType.NODATA
    return kind


def may_keep(query: Query, reply: Reply, kind: MessageType) -> bool:
    """Whether a reply of that kind may be kept at all."""
    if kind in UNSTORED or reply.flags & TC:
        return False
    if kind == MessageType.NXDOMAIN:
        return _has_soa(reply)
    return not (kind == MessageType.NOERROR and reply.answer and not answers(query, reply))


def is_answer(query: Query, reply: Reply) -> bool:
    """Whether it is whole, and an answer to its question."""
    return not reply.flags & TC and kind_of(query, reply) == MessageType.NOERROR and answers(query, reply)


def answers(query: Query, reply: Reply) -> bool:
    """Whether a NOERROR reply has the asked type at the name that its CNAMEs lead to, by one way alone (RFC 2181 §10.1)."""
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
