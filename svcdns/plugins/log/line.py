"""The lines of the plugin *log*: their formats, and the fields of an answered query (docs/behaviour/plugins.md#log)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Final

import msgspec

from svcdns.plugin_api.query import Client, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.reply_type import MessageType, class_of, classify
from svcdns.wire import names
from svcdns.wire.codes import AA, AD, CD, QR, RA, RD, TC, Z, class_text, rcode_text, type_text
from svcdns.wire.request import Request, accept

COMMON: Final = '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" {rcode} {>rflags} {rsize} {duration}'
COMBINED: Final = COMMON + ' "{>opcode}"'
METADATA: Final = "{/"
"""The beginning of a placeholder for metadata."""
_FLAGS: Final = ((QR, "qr"), (AA, "aa"), (TC, "tc"), (RD, "rd"), (RA, "ra"), (Z, "z"), (AD, "ad"), (CD, "cd"))
_OPT_SIZE: Final = 11
_MIN_UDP: Final = 512


class Answered(msgspec.Struct, gc=False):
    """An answered query.

    - `payload` is the UDP payload size in the query's OPT record, or 0.
    - `flags` are the header flags of the reply, and `reply_size` is its length in octets.
    - `query` and `reply` are set if the plugin chain answered. Without them, metadata are written as `-`.
    """

    key: bytes
    rtype: int
    rclass: int
    message_id: int
    opcode: int
    dnssec_ok: bool
    payload: int
    client: Client
    size: int
    rcode: int
    flags: int
    reply_size: int
    seconds: float
    query: Query | None = None
    reply: Reply | None = None


def of_objects(query: Query, reply: Reply, size: int, seconds: float) -> Answered:
    """Returns the fields of a query that the plugin chain has answered with a reply of `size` octets."""
    edns = query.edns
    return Answered(
        query.key, query.rtype, query.rclass, query.ident, query.opcode, query.dnssec_ok, 0 if edns is None else edns.size,
        query.client, query.size, reply.rcode, reply.flags | QR, size, seconds, query, reply,
    )  # fmt: skip


def of_packets(
    packet: bytes, wire: bytes, client: Client, seconds: float, key: bytes, name_end: int, largest: int
) -> Answered:
    """Returns the fields of the query `packet` and its reply `wire`.

    `key` is the query name in lower case, and `name_end` the offset after it. If the payload size in the query is above
    `largest`, it counts as `largest`.
    """
    dnssec_ok, payload, flags = False, 0, wire[2] << 8 | wire[3]
    if packet[10:12] != b"\0\0":
        opt = len(packet) - _OPT_SIZE
        if opt == name_end + 4 and packet[opt : opt + 3] == b"\0\0\x29":
            payload, dnssec_ok = packet[opt + 3] << 8 | packet[opt + 4], packet[opt + 7] > 0x7F
        else:
            request = accept(packet)
            if isinstance(request, Request) and request.edns is not None:
                payload, dnssec_ok = request.edns.size, request.edns.dnssec_ok
    return Answered(
        key,
        packet[name_end] << 8 | packet[name_end + 1],
        packet[name_end + 2] << 8 | packet[name_end + 3],
        packet[0] << 8 | packet[1],
        packet[2] >> 3 & 15,
        dnssec_ok,
        min(payload, largest),
        client,
        len(packet),
        flags & 15,
        flags,
        len(wire),
        seconds,
    )


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@cache
def _flags(flags: int) -> str:
    return ",".join(name for bit, name in _FLAGS if flags & bit)


def _buffer_size(answered: Answered) -> int:
    return 65535 if answered.client.protocol == "tcp" else max(answered.payload, _MIN_UDP)


_FIELDS: Final[dict[str, Callable[[Answered], object]]] = {
    "{type}": lambda a: type_text(a.rtype),
    "{class}": lambda a: class_text(a.rclass),
    "{name}": lambda a: names.to_text(a.key),
    "{proto}": lambda a: a.client.protocol,
    "{remote}": lambda a: _host(a.client.address),
    "{local}": lambda a: _host(a.client.local_address),
    "{port}": lambda a: a.client.port,
    "{size}": lambda a: a.size,
    "{rsize}": lambda a: a.reply_size,
    "{duration}": lambda a: f"{a.seconds:.9f}s",
    "{rcode}": lambda a: rcode_text(a.rcode),
    "{>rflags}": lambda a: _flags(a.flags & ~15),
    "{>id}": lambda a: a.message_id,
    "{>opcode}": lambda a: a.opcode,
    "{>do}": lambda a: "true" if a.dnssec_ok else "false",
    "{>bufsize}": _buffer_size,
}
_TYPES: Final = {
    MessageType.NOERROR: "NOERROR", MessageType.NXDOMAIN: "NXDOMAIN", MessageType.SERVERERROR: "SERVERERROR",
    MessageType.NODATA: "NODATA", MessageType.DELEGATION: "DELEGATION", MessageType.META: "META",
    MessageType.UPDATE: "UPDATE", MessageType.OTHERERROR: "OTHERERROR",
}  # fmt: skip
_OF_THE_REPLY: Final[dict[str, Callable[[Query, Reply], str]]] = {
    "forward/upstream": lambda _, reply: reply.source,
    "log/class": class_of,
    "log/type": lambda query, reply: _TYPES.get(classify(query, reply), ""),
}
"""Metadata that are known when the reply is there."""
_PLACEHOLDER: Final = re.compile("|".join(re.escape(field) for field in _FIELDS) + r"|\{/[^}]+\}")


def compiled(template: str) -> Callable[[Answered], str]:
    """Returns a function that fills in the format `template`.

    An unknown placeholder stays as it is. Metadata are written as `-`.
    """
    fields: list[Callable[[Answered], object]] = []
    form, at = "", 0
    for found in _PLACEHOLDER.finditer(template):
        form += template[at : found.start()].replace("%", "%%") + "%s"
        fields.append(_FIELDS.get(found[0]) or _metadata(found[0][2:-1]))
        at = found.end()
    form += template[at:].replace("%", "%%")
    return lambda answered: form % tuple([field(answered) for field in fields])


def _metadata(label: str) -> Callable[[Answered], str]:
    own = _OF_THE_REPLY.get(label)

    def value(answered: Answered) -> str:
        query, reply = answered.query, answered.reply
        if query is None or reply is None or query.collected is None:
            return "-"
        return (query.metadata(label) if own is None else own(query, reply)) or "-"

    return value
