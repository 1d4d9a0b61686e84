"""Encodes dnstap messages as data frames.

The protobuf fields that do not change are encoded once. `wire/dnstap.py` has their numbers.
"""

from __future__ import annotations

import socket
from struct import Struct
from time import perf_counter, time_ns
from typing import Final

from svcdns.wire.dnstap import MESSAGE, Field, MessageType, Payload, SocketProtocol

MAX_ADDRESSES: Final = 8192
"""The most encoded addresses that are kept."""
_SECOND: Final = 10**9
_MAX_STEP: Final = 1_000_000
"""The nanoseconds that the two clocks may differ before their difference is measured anew."""
_VARINT, _OCTETS, _FIXED32 = 0, 2, 5
_frame_length: Final = Struct(">I").pack
_nanoseconds: Final = Struct("<I").pack
PROTOCOLS: Final = {
    "udp": SocketProtocol.UDP,
    "tcp": SocketProtocol.TCP,
    "tls": SocketProtocol.DOT,
    "https": SocketProtocol.DOH,
    "https3": SocketProtocol.DOH,
    "quic": SocketProtocol.DOQ,
    "grpc": SocketProtocol.TCP,
}
"""The transports of clients and upstreams. dnstap has no number for gRPC."""


def varint(value: int) -> bytes:
    """Returns a number as a varint."""
    if value < 0x80:
        return _SMALL[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL: Final = tuple(bytes((value,)) for value in range(0x80))


def number(field: int, value: int) -> bytes:
    """Returns a field with a number."""
    return varint(field << 3 | _VARINT) + varint(value)


def octets(field: int, value: bytes) -> bytes:
    """Returns a field with octets."""
    return varint(field << 3 | _OCTETS) + varint(len(value)) + value


TYPES: Final = {kind: number(Field.TYPE, kind) for kind in MessageType}
_QUERY_NANOSECONDS: Final = varint(Field.QUERY_NANOSECONDS << 3 | _FIXED32)
_RESPONSE_NANOSECONDS: Final = varint(Field.RESPONSE_NANOSECONDS << 3 | _FIXED32)
_MESSAGE: Final = varint(Payload.MESSAGE << 3 | _OCTETS)
_END: Final = number(Payload.TYPE, MESSAGE)
QUERY_MESSAGE: Final = varint(Field.QUERY_MESSAGE << 3 | _OCTETS)
RESPONSE_MESSAGE: Final = varint(Field.RESPONSE_MESSAGE << 3 | _OCTETS)


class WallClock:
    """Converts times on `perf_counter` to nanoseconds since 1970.

    The same time is always converted to the same number, unless the machine's clock was set meanwhile.
    """

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset = 0
        self.adjust()

    def adjust(self) -> None:
        """Follows the machine's clock. Call it once a second."""
        offset = time_ns() - int(perf_counter() * _SECOND)
        if abs(offset - self._offset) > _MAX_STEP:
            self._offset = offset

    def nanoseconds(self, when: float) -> int:
        """Returns the nanoseconds since 1970 of a time on `perf_counter`."""
        return int(when * _SECOND) + self._offset


class Times:
    """Encodes the fields with a time. Encodes the seconds only when they have changed."""

    __slots__ = ("_query", "_response", "_second")

    def __init__(self) -> None:
        self._second, self._query, self._response = -1, b"", b""

    def of_query(self, when: int) -> bytes:
        """Returns the fields of a query time, in nanoseconds since 1970."""
        second, rest = divmod(when, _SECOND)
        if second != self._second:
            self._turn(second)
        return self._query + _nanoseconds(rest)

    def of_response(self, when: int) -> bytes:
        """Returns the fields of a response time, in nanoseconds since 1970."""
        second, rest = divmod(when, _SECOND)
        if second != self._second:
            self._turn(second)
        return self._response + _nanoseconds(rest)

    def _turn(self, second: int) -> None:
        self._second = second
        self._query = number(Field.QUERY_SECONDS, second) + _QUERY_NANOSECONDS
        self._response = number(Field.RESPONSE_SECONDS, second) + _RESPONSE_NANOSECONDS


class Envelope:
    """The outer message: identity, version and extra."""

    __slots__ = ("_identity", "_prefix")

    def __init__(self, identity: bytes, version: bytes, extra: bytes) -> None:
        """`extra` is empty, or the same for every message."""
        self._identity = octets(Payload.IDENTITY, identity) + octets(Payload.VERSION, version)
        self._prefix = self._identity + (octets(Payload.EXTRA, extra) if extra else b"") + _MESSAGE

    def frame(self, message: bytes) -> bytes:
        """Returns the data frame of an encoded inner message."""
        prefix, length = self._prefix, varint(len(message))
        size = len(prefix) + len(length) + len(message) + 2
        return _frame_length(size) + prefix + length + message + _END

    def frame_with(self, extra: bytes, message: bytes) -> bytes:
        """Returns the data frame of an encoded inner message with its own `extra`."""
        body = self._identity + octets(Payload.EXTRA, extra) + octets(Payload.MESSAGE, message) + _END
        return _frame_length(len(body)) + body


class Addresses:
    """Encodes addresses and ports of sockets."""

    __slots__ = ("_known", "_protocol")

    def __init__(self, protocol: int) -> None:
        self._protocol = protocol
        self._known: dict[tuple[str, int], bytes] = {}

    def of_client(self, address: str, port: int) -> bytes:
        """Returns the fields of the socket family, the protocol, and the address and port of a client."""
        found = self._known.get((address, port))
        if found is None:
            if len(self._known) >= MAX_ADDRESSES:
                self._known.clear()
            found = self._known[address, port] = socket_fields(self._protocol, (address, port), None)
        return found


def socket_fields(protocol: int, query: tuple[str, int] | None, response: tuple[str, int] | None) -> bytes:
    """Returns the fields of a socket, with the address and port of the sender and of the receiver of the query."""
    places = [place for place in (response, query) if place is not None]
    family, _ = packed(places[0][0])
    out = number(Field.SOCKET_FAMILY, family) + number(Field.SOCKET_PROTOCOL, protocol)
    if query is not None:
        out += octets(Field.QUERY_ADDRESS, packed(query[0])[1])
    if response is not None:
        out += octets(Field.RESPONSE_ADDRESS, packed(response[0])[1])
    if query is not None:
        out += number(Field.QUERY_PORT, query[1])
    if response is not None:
        out += number(Field.RESPONSE_PORT, response[1])
    return out


def packed(address: str) -> tuple[int, bytes]:
    """Returns the family (1 for IPv4, 2 for IPv6) and the octets of an address. A mapped IPv4 address is IPv4."""
    if ":" not in address:
        return 1, socket.inet_pton(socket.AF_INET, address)
    found = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    if found[:12] == b"\0\0\0\0\0\0\0\0\0\0\xff\xff":
        return 1, found[12:]
    return 2, found
