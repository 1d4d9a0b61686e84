"""NSEC records that are made for one query: "black lies" (docs/plugins/dnssec.md#denials).

A name that does not exist gets the reply for a name that has other types. The types in the bit map are those that
CoreDNS states, and not those that the name has.
"""

from __future__ import annotations

from typing import Final

from svcdns.dnssec.signatures import nsec_rdata
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply_type import MessageType
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record import Record

NAME_TYPES: Final = frozenset(
    {
        Type.A, Type.HINFO, Type.TXT, Type.AAAA, Type.LOC, Type.SRV, Type.CERT, Type.SSHFP, Type.RRSIG, Type.NSEC,
        Type.TLSA, Type.HIP, Type.OPENPGPKEY, Type.SPF,
    }
)  # fmt: skip
DELEGATION_TYPES: Final = NAME_TYPES | {Type.NS}
APEX_TYPES: Final = NAME_TYPES | {Type.NS, Type.SOA, Type.MX, Type.DNSKEY}


def nsec(query: Query, zone: bytes, ttl: int, kind: MessageType) -> Record:
    """Returns the NSEC record with the query name as its owner. `kind` is the kind of the reply."""
    if query.key == zone:
        types = _without_query_type(APEX_TYPES, query, kind)
    elif kind is MessageType.DELEGATION or query.rtype == Type.DS:
        types = DELEGATION_TYPES
    else:
        types = _without_query_type(NAME_TYPES, query, kind)
    after = kind is MessageType.DELEGATION and query.key != zone
    following = _sibling(query.name) if after else _child(query.name)
    if len(following) > names.MAX_NAME:
        following = zone  # as in the last NSEC record of a zone
    return Record(query.name, Type.NSEC, ttl, nsec_rdata(following, types))


def _without_query_type(types: frozenset[int], query: Query, kind: MessageType) -> frozenset[int]:
    if kind is MessageType.DELEGATION or query.rtype == Type.NSEC:
        return types
    return types - {query.rtype}


def _child(name: bytes) -> bytes:
    """Returns the first name below `name` in canonical order."""
    return b"\x01\x00" + name


def _sibling(name: bytes) -> bytes:
    """Returns the first name that sorts after `name` and after all names below `name`.

    If the first label has 63 octets, returns the first name below `name` instead.
    """
    size = name[0]
    if size == names.MAX_LABEL:
        return _child(name)
    return bytes((size + 1,)) + name[1 : size + 1] + b"\x00" + name[size + 1 :]
