"""The message of DNS over gRPC."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.upstream.dns_packet import MAX_PACKET, from_packet, to_packet
from svcdns.wire.protobuf import ProtobufError, encode


@given(st.binary(max_size=300))
def test_a_message_in_a_packet(message: bytes) -> None:
    assert from_packet(to_packet(message)) == message


def test_the_largest_message() -> None:
    assert len(to_packet(bytes(65535))) == MAX_PACKET
    with pytest.raises(ProtobufError, match="65536 octets"):
        from_packet(to_packet(bytes(65536)))


def test_other_fields_are_ignored() -> None:
    assert from_packet(encode([(2, 5), (1, b"a"), (3, b"x")])) == b"a"
    assert from_packet(b"") == b""
    with pytest.raises(ProtobufError):
        from_packet(encode([(1, 5)]))
