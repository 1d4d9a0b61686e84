"""Classifies replies (docs/behaviour/server.md#kinds-of-replies)."""

from __future__ import annotations

from enum import Enum
from typing import Final

from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Reply
from svcdns.wire.codes import Opcode, Rcode, Type


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


def class_of(query: Query, reply: Reply) -> str:
    """Returns the class of a reply: `success`, `denial` or `error`."""
    return _CLASSES.get(classify(query, reply), ERROR)
