"""The fields of RRSIG records that name the covered type and the signer."""

from __future__ import annotations

from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record import Record
from svcdns.wire.signatures import covered_type, signer

OWNER = names.from_text("a.example.org.")


def test_the_covered_type_and_the_signer() -> None:
    rdata = int(Type.AAAA).to_bytes(2, "big") + bytes(16) + names.from_text("Example.ORG.") + b"signature"
    record = Record(OWNER, Type.RRSIG, 60, rdata)
    assert covered_type(record) == Type.AAAA
    assert signer(record) == names.from_text("example.org.")


def test_other_records_and_short_signatures_have_no_signer() -> None:
    address = Record(OWNER, Type.A, 60, bytes(4))
    assert covered_type(address) == Type.A
    assert signer(address) is None
    assert signer(Record(OWNER, Type.RRSIG, 60, b"\0\1\0")) is None
