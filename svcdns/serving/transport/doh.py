"""DNS queries in HTTP requests, and replies in HTTP responses (RFC 8484), for all versions of HTTP.

The status codes and Cache-Control are CoreDNS's (docs/plugins/https.md). Nothing here reads or writes a socket.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterable
from time import gmtime, strftime, time
from typing import Final
from urllib.parse import unquote_to_bytes

from svcdns.plugin_api.query import Client
from svcdns.plugin_api.tracing import HeaderFields
from svcdns.serving.transport.encrypted import Endpoint
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.wire.codes import OPCODE_MASK, TC, Opcode, Rcode, Type
from svcdns.wire.message import MAX_MESSAGE
from svcdns.wire.request import HEADER, Rejected, accept
from svcdns.wire.ttl import ttls

PATH: Final = b"/dns-query"
MEDIA_TYPE: Final = b"application/dns-message"
MAX_PARAMETER: Final = (MAX_MESSAGE * 8 + 5) // 6
"""The most characters of the parameter `dns`: those of a message of MAX_MESSAGE octets."""
DEFAULT_AGE: Final = 5
"""The seconds in Cache-Control of a response without a usable TTL."""
MAX_AGE: Final = 3600
OK: Final = 200
BAD_REQUEST: Final = 400
NOT_FOUND: Final = 404
NO_RESPONSE: Final = 500
TEXTS: Final = {BAD_REQUEST: b"invalid request\n", NOT_FOUND: b"\n", NO_RESPONSE: b"No response\n"}
"""The bodies of the responses without a DNS message."""

HTTPS_RESPONSES: Final = Family(
    "coredns_dns_https_responses_total",
    MetricKind.COUNTER,
    "Counter of DoH responses per server and http status code.",
    ("server", "status"),
)

Respond = Callable[[int, bytes, int], None]
"""Sends a response. The arguments are the status, the body, and the seconds in Cache-Control if the status is OK."""

_DIRECT: Final = PATH + b"?dns="
_BASE64URL: Final = re.compile(rb"[A-Za-z0-9_-]*")
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")
_RCODE: Final = 15


def refusal(method: bytes, target: bytes) -> int:
    """Returns the HTTP status for a request with a wrong path or method, otherwise 0."""
    path = target.partition(b"?")[0]
    if path != PATH and unquote_to_bytes(path) != PATH:
        return NOT_FOUND
    return 0 if method in (b"GET", b"POST") else BAD_REQUEST


def packet_of(target: bytes) -> bytes | None:
    """Returns the DNS message in the target of a GET request.

    Returns None if there is not exactly one parameter `dns`, if it is too long, or if it is not in base64url.
    """
    if target.startswith(_DIRECT) and b"&" not in target and b"%" not in target:
        values = [target[len(_DIRECT) :]]
    else:
        pairs = (pair.partition(b"=") for pair in target.partition(b"?")[2].split(b"&"))
        values = [unquote_to_bytes(value) for name, _, value in pairs if unquote_to_bytes(name) == b"dns"]
    if len(values) != 1 or len(values[0]) > MAX_PARAMETER or not _BASE64URL.fullmatch(values[0]):
        return None
    padded = values[0] + b"=" * (-len(values[0]) % 4)
    try:
        return binascii.a2b_base64(padded.translate(_FROM_URL))
    except binascii.Error:
        return None


def trace_fields(endpoint: Endpoint, headers: Iterable[tuple[bytes, bytes]]) -> HeaderFields:
    """Returns the header fields of a request that belong to a trace (plugin *trace*), or none if nothing is traced."""
    if endpoint.responder.sampling is None:
        return ()
    return [(name, value) for name, value in headers if name == b"b3" or name.startswith(b"x-b3-")]


def ask(endpoint: Endpoint, packet: bytes, client: Client, respond: Respond, headers: HeaderFields = ()) -> None:
    """Answers the query of a request. Calls `respond` exactly once, before this call returns or later.

    `headers` are the fields that `trace_fields` returned.
    """
    if len(packet) > MAX_MESSAGE or not _is_query(packet):
        respond(BAD_REQUEST, TEXTS[BAD_REQUEST], 0)
        return

    def send(wire: bytes) -> None:
        if wire:
            respond(OK, wire, age(wire))
        else:
            respond(NO_RESPONSE, TEXTS[NO_RESPONSE], 0)

    endpoint.answer(packet, client, send, headers=headers)


def _is_query(packet: bytes) -> bool:
    """Returns True for a query, and for a NOTIFY message. CoreDNS refuses all other messages."""
    if len(packet) < HEADER.size:
        return False
    _, flags, questions, answers, authorities, additionals = HEADER.unpack_from(packet)
    if flags >> 11 == Opcode.NOTIFY:
        return True
    if flags & (1 << 15 | OPCODE_MASK) or questions != 1 or answers > 1 or authorities > 1 or additionals > 2:
        return False
    return not isinstance(accept(packet), Rejected)


def age(wire: bytes) -> int:
    """Returns the seconds for which a reply may be cached: its lowest TTL, as CoreDNS determines it."""
    _, flags, _, answers, authorities, _ = HEADER.unpack_from(wire)
    rcode = flags & _RCODE
    if flags & (TC | OPCODE_MASK) or rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN) or (answers and rcode):
        return DEFAULT_AGE
    found = ttls(wire)
    if not found:
        return DEFAULT_AGE
    if not answers and not rcode and authorities:
        types = [rtype for rtype, _ in found[:authorities]]
        if Type.SOA not in types and Type.NS in types:  # a delegation
            return DEFAULT_AGE
    return min(MAX_AGE, *[ttl for _, ttl in found])


class _Date:
    """The header field Date, which changes once a second."""

    __slots__ = ("_at", "_text")

    def __init__(self) -> None:
        self._at, self._text = 0, b""

    def __call__(self) -> bytes:
        now = int(time())
        if now != self._at:
            self._at, self._text = now, strftime("%a, %d %b %Y %H:%M:%S GMT", gmtime(now)).encode()
        return self._text


date: Final = _Date()


def fields(status: int, body: bytes, max_age: int) -> list[tuple[bytes, bytes]]:
    """Returns the header fields of a response, with names in lower case."""
    return fields_at(status, len(body), max_age, date())


def fields_at(status: int, length: int, max_age: int, now: bytes) -> list[tuple[bytes, bytes]]:
    """Returns the header fields of a response, with names in lower case.

    `length` is that of the body, and `now` the value of Date.
    """
    last = [(b"content-length", b"%d" % length), (b"date", now)]
    if status == OK:
        return [(b"content-type", MEDIA_TYPE), (b"cache-control", b"max-age=%d" % max_age), *last]
    return [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff"), *last]
