"""Encodes and decodes messages in the wire format of Protocol Buffers (https://protobuf.dev/programming-guides/encoding/).

A message is a series of fields. A field has a number, and a value: a whole number or octets. This module knows no
message types: those who call it know the numbers of their fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from svcdns.errors import SvcdnsError

Field = tuple[int, int | bytes]
"""The number of a field, and its value."""

_VARINT, _FIXED64, _OCTETS, _FIXED32 = 0, 1, 2, 5
_MAX_NUMBER: Final = (1 << 29) - 1
_WORD: Final = 1 << 64


class ProtobufError(SvcdnsError):
    """Raised if octets are no message."""


def encode(fields: Iterable[Field]) -> bytes:
    """Returns the message with these fields. Fields with the value 0 or without octets are left out, as in proto3.

    A negative number is encoded with 64 bits, as `int64` is.
    """
    out = bytearray()
    for number, value in fields:
        if not value:
            continue
        if isinstance(value, int):
            out += _varint(number << 3 | _VARINT) + _varint(value % _WORD)
        else:
            out += _varint(number << 3 | _OCTETS) + _varint(len(value)) + value
    return bytes(out)


def decode(message: bytes) -> Iterator[Field]:
    """Yields the fields of a message in their order. Raises ProtobufError.

    Whole numbers are unsigned; `signed` converts them. A field of 4 or 8 octets is yielded as a number.
    """
    at, end = 0, len(message)
    while at < end:
        tag, at = _read_varint(message, at)
        number, kind = tag >> 3, tag & 7
        if not 0 < number <= _MAX_NUMBER:
            raise ProtobufError(f"a field has the number {number}")
        if kind == _VARINT:
            value, at = _read_varint(message, at)
            yield number, value
            continue
        if kind == _OCTETS:
            size, at = _read_varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ProtobufError(f"field {number} has the unknown wire type {kind}")
        if size > end - at:
            raise ProtobufError(f"field {number} has {size} octets, but {end - at} are left")
        octets = message[at : at + size]
        at += size
        yield number, octets if kind == _OCTETS else int.from_bytes(octets, "little")


def signed(value: int) -> int:
    """Returns the `int64` that an unsigned number of 64 bits stands for."""
    return value - _WORD if value >> 63 else value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ProtobufError("a number is cut off")
        octet = message[at]
        at += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value % _WORD, at
    raise ProtobufError("a number has more than ten octets")
