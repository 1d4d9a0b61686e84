"""The target name in the RDATA of a record."""

from __future__ import annotations

import dns.rdata
import pytest

from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record import Record
from svcdns.wire.targets import target

OWNER = names.from_text("A.example.org.")


def record(rtype: str, rdata: bytes) -> Record:
    return Record(OWNER, int(Type[rtype]), 60, rdata)


@pytest.mark.parametrize(
    ("rtype", "text", "expected"),
    [
        ("CNAME", "T.example.com.", "t.example.com."),
        ("NS", "t.example.com.", "t.example.com."),
        ("MX", "10 t.example.com.", "t.example.com."),
        ("SRV", "0 0 80 T.EXAMPLE.com.", "t.example.com."),
        ("NAPTR", '100 10 "a" "x-s" "" t.example.com.', "t.example.com."),
        ("HTTPS", "1 t.example.com. alpn=h2", "t.example.com."),
        ("HTTPS", "1 . alpn=h2", "a.example.org."),
        ("MX", "0 .", "."),
    ],
)
def test_target(rtype: str, text: str, expected: str) -> None:
    """The target of a service binding `.` is the owner of the record (RFC 9460 §2.5)."""
    rdata = dns.rdata.from_text("IN", rtype, text).to_generic().data
    assert target(record(rtype, rdata)) == names.from_text(expected)


@pytest.mark.parametrize(
    ("rtype", "rdata"),
    [("A", b"\1\2\3\4"), ("TXT", b"\1a"), ("SRV", b"\0\0"), ("NAPTR", b"\0\0\0\0\5"), ("NAPTR", b"")],
)
def test_records_without_a_target(rtype: str, rdata: bytes) -> None:
    assert target(record(rtype, rdata)) is None
