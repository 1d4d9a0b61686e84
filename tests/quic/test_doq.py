"""The numbers of DNS over QUIC are those of RFC 9250."""

from __future__ import annotations

from svcdns.quic.doq import ALPN, DoqError


def test_numbers_are_those_of_the_registry() -> None:
    assert [(code.name, code.value) for code in DoqError] == [
        ("NO_ERROR", 0),
        ("INTERNAL_ERROR", 1),
        ("PROTOCOL_ERROR", 2),
        ("REQUEST_CANCELLED", 3),
        ("EXCESSIVE_LOAD", 4),
        ("UNSPECIFIED_ERROR", 5),
    ]
    assert ALPN == "doq"
