"""Messages in the wire format of Protocol Buffers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.wire.protobuf import ProtobufError, decode, encode, signed

FIELDS = st.lists(
    st.tuples(st.integers(1, (1 << 29) - 1), st.integers(1, (1 << 64) - 1) | st.binary(min_size=1, max_size=300))
)


@given(FIELDS)
def test_decode_returns_what_was_encoded(fields: list[tuple[int, int | bytes]]) -> None:
    assert list(decode(encode(fields))) == fields


@given(st.binary(max_size=100))
def test_any_octets_are_a_message_or_an_error(octets: bytes) -> None:
    try:
        fields = list(decode(octets))
    except ProtobufError:
        return
    assert sum(len(value) for _, value in fields if isinstance(value, bytes)) <= len(octets)


def test_an_example_of_the_specification() -> None:
    """Field 1 with the value 150, and field 2 with the text `testing`."""
    assert encode([(1, 150), (2, b"testing")]) == bytes.fromhex("0896011207") + b"testing"


def test_fields_without_a_value_are_left_out() -> None:
    assert encode([(1, 0), (2, b""), (3, 1)]) == b"\x18\x01"


@pytest.mark.parametrize("value", [-1, 0, 1, -(1 << 63), (1 << 63) - 1])
def test_negative_numbers_have_64_bits(value: int) -> None:
    found = dict(decode(encode([(1, value)]))).get(1, 0)
    assert isinstance(found, int)
    assert signed(found) == value


@pytest.mark.parametrize(
    ("octets", "error"),
    [
        (b"\x08", "a number is cut off"),
        (b"\x08" + b"\xff" * 10, "a number has more than ten octets"),
        (b"\x00\x01", "a field has the number 0"),
        (b"\x0b\x01", "field 1 has the unknown wire type 3"),
        (b"\x12\x05abc", "field 2 has 5 octets, but 3 are left"),
        (b"\x0d\x01", "field 1 has 4 octets, but 1 are left"),
    ],
)
def test_malformed_messages(octets: bytes, error: str) -> None:
    with pytest.raises(ProtobufError, match=error):
        list(decode(octets))


def test_fixed_sizes_are_numbers() -> None:
    assert list(decode(b"\x0d\x01\x00\x00\x00\x11\x02" + bytes(7))) == [(1, 1), (2, 2)]
