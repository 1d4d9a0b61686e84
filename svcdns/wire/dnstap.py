"""The dnstap message (https://dnstap.info): the numbers of its protobuf fields, and a decoder.

The plugin *dnstap* encodes messages with the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from svcdns.wire.protobuf import ProtobufError, decode

MESSAGE: Final = 1
"""The value of `Payload.TYPE`: the payload is a message."""


class Payload(IntEnum):
    """The fields of the outer message."""

    IDENTITY = 1
    VERSION = 2
    EXTRA = 3
    MESSAGE = 14
    TYPE = 15


class Field(IntEnum):
    """The fields of the inner message."""

    TYPE = 1
    SOCKET_FAMILY = 2
    SOCKET_PROTOCOL = 3
    QUERY_ADDRESS = 4
    RESPONSE_ADDRESS = 5
    QUERY_PORT = 6
    RESPONSE_PORT = 7
    QUERY_SECONDS = 8
    QUERY_NANOSECONDS = 9
    QUERY_MESSAGE = 10
    QUERY_ZONE = 11
    RESPONSE_SECONDS = 12
    RESPONSE_NANOSECONDS = 13
    RESPONSE_MESSAGE = 14


class MessageType(IntEnum):
    """The types of messages that are written."""

    CLIENT_QUERY = 5
    CLIENT_RESPONSE = 6
    FORWARDER_QUERY = 7
    FORWARDER_RESPONSE = 8


class SocketProtocol(IntEnum):
    """The transports."""

    UDP = 1
    TCP = 2
    DOT = 3
    DOH = 4
    DOQ = 7


@dataclass(frozen=True, slots=True)
class DnstapMessage:
    """A decoded message. A time is in nanoseconds since 1970, and 0 if the message has none."""

    kind: int
    family: int = 0
    protocol: int = 0
    query_address: bytes = b""
    query_port: int = 0
    response_address: bytes = b""
    response_port: int = 0
    query_time: int = 0
    response_time: int = 0
    query: bytes = b""
    response: bytes = b""
    zone: bytes = b""
    identity: bytes = b""
    version: bytes = b""
    extra: bytes = b""


def from_wire(payload: bytes) -> DnstapMessage | None:
    """Returns the message of a data frame, or None if the frame has no message. Raises ProtobufError."""
    outer = dict(decode(payload))
    inner = dict(decode(_octets(outer, Payload.MESSAGE)))
    if _number(outer, Payload.TYPE) != MESSAGE or not inner:
        return None
    return DnstapMessage(
        _number(inner, Field.TYPE),
        _number(inner, Field.SOCKET_FAMILY),
        _number(inner, Field.SOCKET_PROTOCOL),
        _octets(inner, Field.QUERY_ADDRESS),
        _number(inner, Field.QUERY_PORT),
        _octets(inner, Field.RESPONSE_ADDRESS),
        _number(inner, Field.RESPONSE_PORT),
        _number(inner, Field.QUERY_SECONDS) * 10**9 + _number(inner, Field.QUERY_NANOSECONDS),
        _number(inner, Field.RESPONSE_SECONDS) * 10**9 + _number(inner, Field.RESPONSE_NANOSECONDS),
        _octets(inner, Field.QUERY_MESSAGE),
        _octets(inner, Field.RESPONSE_MESSAGE),
        _octets(inner, Field.QUERY_ZONE),
        _octets(outer, Payload.IDENTITY),
        _octets(outer, Payload.VERSION),
        _octets(outer, Payload.EXTRA),
    )


def _number(fields: dict[int, int | bytes], number: int) -> int:
    value = fields.get(number, 0)
    if not isinstance(value, int):
        raise ProtobufError(f"field {number} of a dnstap message is no number")
    return value


def _octets(fields: dict[int, int | bytes], number: int) -> bytes:
    value = fields.get(number, b"")
    if not isinstance(value, bytes):
        raise ProtobufError(f"field {number} of a dnstap message has no octets")
    return value
