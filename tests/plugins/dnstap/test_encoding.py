"""Encoding dnstap messages. The octets are written by hand from the field numbers."""

from __future__ import annotations

import pytest

from svcdns.plugins.dnstap.encoding import Envelope, Times, WallClock, number, octets, socket_fields, varint


@pytest.mark.parametrize(("value", "text"), [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (40000, "c0b802")])
def test_varints(value: int, text: str) -> None:
    assert varint(value).hex() == text


def test_fields() -> None:
    assert number(15, 1).hex() == "7801"
    assert octets(14, b"ab").hex() == "72026162"


def test_the_outer_message() -> None:
    """The fields 1, 2, 3, 14 and 15, after the length of the frame."""
    expected = bytes.fromhex("0000000f 0a0169 120176 1a0178 72020805 7801")
    assert Envelope(b"i", b"v", b"x").frame(b"\x08\x05") == expected
    assert Envelope(b"i", b"v", b"").frame_with(b"x", b"\x08\x05") == expected
    assert Envelope(b"i", b"v", b"").frame(b"\x08\x05").hex() == "0000000c0a016912017672020805" + "7801"


def test_times() -> None:
    """The fields 8 and 9 of a query, and 12 and 13 of a response. Nanoseconds are little-endian."""
    times = Times()
    assert times.of_query(2_000_000_000_000_000_001).hex() == "4080a8d6b9074d01000000"
    assert times.of_response(2_000_000_000_000_000_258).hex() == "6080a8d6b9076d02010000"
    assert times.of_query(2_000_000_001_000_000_000).hex() == "4081a8d6b9074d00000000"


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("192.0.2.1", "1001 1801 2204c0000201 30c0b802"),
        ("::ffff:192.0.2.1", "1001 1801 2204c0000201 30c0b802"),
        ("fe80::1%eth0", "1002 1801 2210fe800000000000000000000000000001 30c0b802"),
    ],
)
def test_a_client(address: str, text: str) -> None:
    """The fields 2, 3, 4 and 6."""
    assert socket_fields(1, (address, 40000), None) == bytes.fromhex(text)


def test_an_upstream() -> None:
    """The fields 2, 3, 5 and 7, and 4 and 6 if the address of this end is known."""
    assert socket_fields(1, None, ("192.0.2.9", 53)).hex() == "100118012a04c00002093835"
    found = socket_fields(1, ("192.0.2.1", 1), ("192.0.2.9", 53))
    assert found.hex() == "100118012204c00002012a04c000020930013835"


def test_the_clock_converts_a_time_to_the_same_number() -> None:
    clock = WallClock()
    first = clock.nanoseconds(1.5)
    clock.adjust()
    assert clock.nanoseconds(1.5) == first
    assert clock.nanoseconds(2.5) - first == 1_000_000_000
