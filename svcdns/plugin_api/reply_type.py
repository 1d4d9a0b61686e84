"""Classifies replies (docs/behaviour/server.md#kinds-of-replies)."""

from __future__ import annotations

from enum import Enum
from typing import Final

from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Reply
from svcdns.wire.codes import Opcode, Rcode, Type
from svcdns.wire.names import read_name


class MessageType(Enum):
    """The kinds of replies in docs/behaviour/server.md#kinds-of-replies."""

    UPDATE = "update"
    META = "meta"
    NOERROR = "noerror"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    SERVERERROR = "servererror"
    DELEGATION = "delegation"
    OTHERERROR = "othererror"


SUCCESS: Final = "success"
DENIAL: Final = "denial"
ERROR: Final = "error"

_CLASSES: Final = {
    MessageType.NOERROR: SUCCESS,
    MessageType.DELEGATION: SUCCESS,
    MessageType.NXDOMAIN: DENIAL,
    MessageType.NODATA: DENIAL,
}


def classify(query: Query, reply: Reply) -> MessageType:
    """Returns the kind of a reply: the first kind in docs/behaviour/server.md#kinds-of-replies that applies."""
    if query.opcode == Opcode.UPDATE:
        return MessageType.UPDATE
    if query.opcode == Opcode.NOTIFY or query.rtype in (Type.AXFR, Type.IXFR):
        return MessageType.META
    if reply.rcode == Rcode.NXDOMAIN:
        return MessageType.OTHERERROR if reply.answer else MessageType.NXDOMAIN
    if reply.rcode in (Rcode.SERVFAIL, Rcode.NOTIMP):
        return MessageType.SERVERERROR
    if reply.rcode != Rcode.NOERROR:
        return MessageType.OTHERERROR
    if reply.answer:
        return MessageType.NOERROR
    authority = {record.rtype for record in reply.authority}
    if Type.SOA in authority:
        return MessageType.NODATA
    return MessageType.DELEGATION if Type.NS in authority else MessageType.NOERROR


def _classify_packet(packet: bytes, wire: bytes, question_end: int) -> MessageType:
    """Returns the same as `classify`, for the packets of a query and of its reply.

    `question_end` is the offset after the question section in both packets. A truncated reply without an answer counts
    as an answer.
    """
    opcode, rtype = packet[2] >> 3 & 15, packet[question_end - 4] << 8 | packet[question_end - 3]
    if opcode == Opcode.UPDATE:
        return MessageType.UPDATE
    if opcode == Opcode.NOTIFY or rtype in (Type.AXFR, Type.IXFR):
        return MessageType.META
    rcode, has_answer = wire[3] & 15, wire[6:8] != b"\0\0"
    if rcode == Rcode.NXDOMAIN:
        return MessageType.OTHERERROR if has_answer else MessageType.NXDOMAIN
    if rcode in (Rcode.SERVFAIL, Rcode.NOTIMP):
        return MessageType.SERVERERROR
    if rcode != Rcode.NOERROR:
        return MessageType.OTHERERROR
    if has_answer or wire[8:10] == b"\0\0":
        return MessageType.NOERROR
    authority, at = set(), question_end
    for _ in range(wire[8] << 8 | wire[9]):
        _, at = read_name(wire, at)
        authority.add(wire[at] << 8 | wire[at + 1])
        at += 10 + (wire[at + 8] << 8 | wire[at + 9])
    if Type.SOA in authority:
        return MessageType.NODATA
    return MessageType.DELEGATION if Type.NS in authority else MessageType.NOERROR


def class_of_packet(packet: bytes, wire: bytes, question_end: int) -> str:
    """Returns the class of the reply `wire` to the query `packet`, as `class_of` does.

    `question_end` is the offset after the question section in both packets.
    """
    return _CLASSES.get(_classify_packet(packet, wire, question_end), ERROR)


def class_of(query: Query, reply: Reply) -> str:
    """Returns the class of a reply: `success`, `denial` or `error`."""
    return _CLASSES.get(classify(query, reply), ERROR)
