"""Reading the records of zone transfers (RFC 5936 §2.2, RFC 1995 §4)."""

from __future__ import annotations

import pytest

from svcdns.wire import names, zone_differences
from svcdns.wire.errors import FormError
from svcdns.wire.record import Record
from svcdns.wire.zone_differences import Difference, TransferReader, ZoneTransfer
from tests.support import world

ZONE = names.from_text("example.org.")


def record(text: str) -> Record:
    """Returns an SOA record for a number, otherwise an address record for a name."""
    if text.isdecimal():
        return world.records(f"example.org. 60 IN SOA ns.example.org. root.example.org. {text} 2 3 4 5")[0]
    return world.records(f"{text}. 60 IN A 10.0.0.1")[0]


def read(text: str, serial: int | None = 1) -> ZoneTransfer | None:
    """Reads messages that `/` separates."""
    reader, found = TransferReader(ZONE, serial), None
    for part in text.split("/"):
        assert found is None
        found = reader.read(tuple(record(word) for word in part.split()))
    return found


A, B, C = (record(f"{name}.example.org") for name in "abc")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("2 a.example.org b.example.org 2", ZoneTransfer(record("2"), [A, B], []), id="a whole zone"),
        pytest.param("2 / a.example.org / 2", ZoneTransfer(record("2"), [A], []), id="in several messages"),
        pytest.param("2 2", ZoneTransfer(record("2"), [], []), id="a zone without other records"),
        pytest.param("2 a.example.org b.example.net 2", ZoneTransfer(record("2"), [A], []), id="records outside"),
        pytest.param("1", ZoneTransfer(record("1"), None, []), id="a current version"),
        pytest.param("0", ZoneTransfer(record("0"), None, []), id="an older version"),
        pytest.param(
            "2 1 a.example.org 2 b.example.org 2",
            ZoneTransfer(record("2"), None, [Difference(record("1"), [A], record("2"), [B])]),
            id="one difference",
        ),
        pytest.param(
            "3 / 1 / a.example.org b.example.org / 2 / 2 / b.example.net / 3 / c.example.org / 3",
            ZoneTransfer(
                record("3"),
                None,
                [Difference(record("1"), [A, B], record("2"), []), Difference(record("2"), [], record("3"), [C])],
            ),
            id="two differences",
        ),
        pytest.param("2", None, id="no end: one record"),
        pytest.param("2 a.example.org", None, id="no end: whole zone"),
        pytest.param("2 1 a.example.org", None, id="no end: differences"),
    ],
)
def test_transfers(text: str, expected: ZoneTransfer | None) -> None:
    assert read(text) == expected


def test_a_whole_zone_may_be_of_the_same_version() -> None:
    """After AXFR, a single SOA record is not the end."""
    assert read("1", None) is None
    assert read("1 / a.example.org / 1", None) == ZoneTransfer(record("1"), [A], [])


@pytest.mark.parametrize(
    ("text", "serial", "error"),
    [
        pytest.param("a.example.org", None, "does not begin with the SOA record", id="no SOA record"),
        pytest.param("2 a.example.org 3", None, "ends with another SOA record", id="another SOA record"),
        pytest.param("2 1 2", None, "ends with another SOA record", id="differences for AXFR"),
        pytest.param("3 2 a.example.org 3 3", 1, "begin with another version", id="not from the client's version"),
        pytest.param("4 1 2 3 4 4", 1, "not of successive versions", id="a gap"),
        pytest.param("3 1 1 1 1 1", 1, "not lead to a newer version", id="the same version again"),
        pytest.param("2 /", 1, "has no records", id="an empty message"),
        pytest.param("2 a.example.org b.example.org c.example.org 2", None, "more than 4 records", id="records"),
    ],
)
def test_transfers_that_break_a_rule(
    monkeypatch: pytest.MonkeyPatch, text: str, serial: int | None, error: str
) -> None:
    monkeypatch.setattr(zone_differences, "MAX_RECORDS", 4 if "4" in error else 9)
    with pytest.raises(FormError, match=error):
        read(text, serial)


def test_the_size_of_the_records_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed names count with their whole length."""
    monkeypatch.setattr(zone_differences, "MAX_OCTETS", 200)
    with pytest.raises(FormError, match="more than 200 octets"):
        read("2 " + "a.example.org " * 9, None)
