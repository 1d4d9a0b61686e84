"""Decoding dnstap messages. The octets are written by hand from the field numbers."""

from __future__ import annotations

import pytest

from svcdns.wire.dnstap import DnstapMessage, from_wire
from svcdns.wire.protobuf import ProtobufError

INNER = bytes.fromhex(
    "08 05"  # field 1, varint: CLIENT_QUERY
    "10 01"  # field 2, varint: INET
    "18 01"  # field 3, varint: UDP
    "22 04 c0000201"  # field 4, 4 octets: query address
    "30 c0b802"  # field 6, varint: query port 40000
    "40 80a8d6b907"  # field 8, varint: seconds 2000000000
    "4d 01000000"  # field 9, fixed32: nanoseconds 1
    "52 02 6162"  # field 10, 2 octets: query
    "5a 01 00"  # field 11, 1 octet: zone
)
OUTER = bytes.fromhex("0a 01 69 12 01 76 1a 01 78 72") + bytes((len(INNER),)) + INNER + bytes.fromhex("78 01")


def test_a_message() -> None:
    assert from_wire(OUTER) == DnstapMessage(
        5,
        1,
        1,
        bytes((192, 0, 2, 1)),
        40000,
        query_time=2_000_000_000_000_000_001,
        query=b"ab",
        zone=b"\0",
        identity=b"i",
        version=b"v",
        extra=b"x",
    )


def test_a_frame_without_a_message() -> None:
    assert from_wire(bytes.fromhex("78 02")) is None
    assert from_wire(b"") is None


@pytest.mark.parametrize("text", ["72 05 0801", "70 01 78 01", "72 02 2001 78 01", "72 03 0a0161 78 01"])
def test_malformed_messages(text: str) -> None:
    with pytest.raises(ProtobufError):
        from_wire(bytes.fromhex(text))
