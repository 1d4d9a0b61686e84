"""The lines of the plugin *log*: their formats, and the fields of an answered query (docs/behaviour/plugins.md#log)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, Final

import msgspec

from svcdns.plugin_api.query import Client, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.reply_type import MessageType, class_of, classify
from svcdns.wire import names
from svcdns.wire.codes import AA, AD, CD, QR, RA, RD, TC, Z, class_text, rcode_text, type_text
from svcdns.wire.request import Request, accept

COMMON: Final = '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" {rcode} {>rflags} {rsize} {duration}'
JSON: Final = "json"
"""The format of lines that are JSON objects. No other format has this text, because each other format has a brace."""
COMBINED: Final = COMMON + ' "{>opcode}"'
LOCAL: Final = "{local}"
METADATA: Final = "{/"
"""The beginning of a placeholder for metadata."""
_FLAGS: Final = ((QR, "qr"), (AA, "aa"), (TC, "tc"), (RD, "rd"), (RA, "ra"), (Z, "z"), (AD, "ad"), (CD, "cd"))
_OPT_SIZE: Final = 11
_MIN_UDP: Final = 512
_MAX_TCP: Final = 65535
_BOOL: Final = ("false", "true")
_SHOWN: Final = QR | AA | TC | RD | RA | Z | AD | CD


class Answered(msgspec.Struct, gc=False):
    """The fields of the log line about one answered query, in the form in which the line has them.

    `query` and `reply` are set if the plugin chain answered. Without them, metadata are written as `-`.
    """

    rtype: str
    rclass: str
    name: str
    client: Client
    remote: str
    message_id: int
    opcode: int
    dnssec_ok: str
    payload: int
    size: int
    rcode: str
    flags: str
    reply_size: int
    seconds: float
    query: Query | None = None
    reply: Reply | None = None


def of_objects(query: Query, reply: Reply, size: int, seconds: float) -> Answered:
    """Returns the fields of a query that the plugin chain has answered with a reply of `size` octets."""
    edns, client = query.edns, query.client
    return Answered(
        type_text(query.rtype),
        class_text(query.rclass),
        names.to_text(query.key),
        client,
        _host(client.address),
        query.ident,
        query.opcode,
        _BOOL[query.dnssec_ok],
        _payload(client, 0 if edns is None else edns.size),
        query.size,
        rcode_text(reply.rcode),
        _flags(reply.flags & _SHOWN | QR),
        size,
        seconds,
        query,
        reply,
    )


def of_packets(
    packet: bytes, wire: bytes, client: Client, seconds: float, key: bytes, name_end: int, largest: int
) -> Answered:
    """Returns the fields of the query `packet` and its reply `wire`.

    `key` is the query name in lower case, and `name_end` the offset after it. If the payload size in the query is above
    `largest`, it counts as `largest`.
    """
    dnssec_ok, payload = False, 0
    if packet[10:12] != b"\0\0":
        opt = len(packet) - _OPT_SIZE
        if opt == name_end + 4 and packet[opt : opt + 3] == b"\0\0\x29":
            payload, dnssec_ok = packet[opt + 3] << 8 | packet[opt + 4], packet[opt + 7] > 0x7F
        else:
            request = accept(packet)
            if isinstance(request, Request) and request.edns is not None:
                payload, dnssec_ok = request.edns.size, request.edns.dnssec_ok
    rtype, rclass = packet[name_end] << 8 | packet[name_end + 1], packet[name_end + 2] << 8 | packet[name_end + 3]
    return Answered(
        type_text(rtype),
        class_text(rclass),
        names.to_text(key),
        client,
        _host(client.address),
        packet[0] << 8 | packet[1],
        packet[2] >> 3 & 15,
        _BOOL[dnssec_ok],
        _payload(client, payload if payload < largest else largest),
        len(packet),
        rcode_text(wire[3] & 15),
        _flags((wire[2] << 8 | wire[3]) & _SHOWN),
        len(wire),
        seconds,
    )


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@cache
def _flags(flags: int) -> str:
    return ",".join(name for bit, name in _FLAGS if flags & bit)


def _payload(client: Client, size: int) -> int:
    if client.protocol == "tcp":
        return _MAX_TCP
    return size if size > _MIN_UDP else _MIN_UDP


_FIELDS: Final[dict[str, tuple[str, str]]] = {
    "{type}": ("%s", "rtype"),
    "{class}": ("%s", "rclass"),
    "{name}": ("%s", "name"),
    "{proto}": ("%s", "client.protocol"),
    "{remote}": ("%s", "remote"),
    "{port}": ("%d", "client.port"),
    "{size}": ("%d", "size"),
    "{rsize}": ("%d", "reply_size"),
    "{duration}": ("%.9fs", "seconds"),
    "{rcode}": ("%s", "rcode"),
    "{>rflags}": ("%s", "flags"),
    "{>id}": ("%d", "message_id"),
    "{>opcode}": ("%d", "opcode"),
    "{>do}": ("%s", "dnssec_ok"),
    "{>bufsize}": ("%d", "payload"),
}
"""For each placeholder: how its value is converted, and its field of `Answered`."""
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
"""The metadata that are known only after the reply."""
_PLACEHOLDER: Final = re.compile("|".join(re.escape(field) for field in (*_FIELDS, LOCAL)) + r"|\{/[^}]+\}")


def compiled(template: str) -> Callable[[Answered], str]:
    """Returns a function that fills in the format `template`.

    An unknown placeholder stays as it is. Metadata are written as `-`.
    """
    getters: list[Callable[[Answered], object]] = []
    fields: list[str] = []
    form, at = "", 0
    for found in _PLACEHOLDER.finditer(template):
        conversion, field = _FIELDS.get(found[0], ("%s", ""))
        form += template[at : found.start()].replace("%", "%%") + conversion
        at = found.end()
        fields += [field] if field else []
        getters.append(attrgetter(field) if field else _local if found[0] == LOCAL else _metadata(found[0][2:-1]))
    form += template[at:].replace("%", "%%")
    if len(getters) == len(fields) > 1:
        values = attrgetter(*fields)  # one call for all fields
        return lambda answered: form % values(answered)
    return lambda answered: form % tuple([get(answered) for get in getters])


class JsonLine(msgspec.Struct):
    """The JSON object of a line.

    `time` is in UTC (RFC 3339): when the line was made, after the reply was sent. `remote` and `local` are addresses
    without brackets. `duration` is in seconds, from the arrival of the query to the reply.
    """

    time: Annotated[datetime, msgspec.Meta(extra_json_schema={"format": "date-time"})]
    level: str
    plugin: str
    remote: str
    port: int
    local: str
    id: int
    opcode: int
    proto: str
    name: str
    type: str
    class_: str = msgspec.field(name="class")
    size: int
    do: bool
    bufsize: int
    rcode: str
    rflags: list[str]
    rsize: int
    duration: float


def schema() -> dict[str, Any]:
    """Returns the JSON schema of a line in the format JSON."""
    return msgspec.json.schema(JsonLine)


def as_json(answered: Answered) -> str:
    """Returns the line of a query as a JSON object (docs/schemas/log.json)."""
    client = answered.client
    line = JsonLine(
        datetime.now(UTC),
        "info",
        "log",
        client.address,
        client.port,
        client.local_address,
        answered.message_id,
        answered.opcode,
        client.protocol,
        answered.name,
        answered.rtype,
        answered.rclass,
        answered.size,
        answered.dnssec_ok == _BOOL[True],
        answered.payload,
        answered.rcode,
        answered.flags.split(","),
        answered.reply_size,
        round(answered.seconds, 9),
    )
    return msgspec.json.encode(line).decode()


def _local(answered: Answered) -> str:
    return _host(answered.client.local_address)


def _metadata(label: str) -> Callable[[Answered], str]:
    own = _OF_THE_REPLY.get(label)

    def value(answered: Answered) -> str:
        query, reply = answered.query, answered.reply
        if query is None or reply is None or query.collected is None:
            return "-"
        return (query.metadata(label) if own is None else own(query, reply)) or "-"

    return value
