"""Record sets of Route 53 become records."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugins.route53.records import EscapeError, records_of, unescaped
from svcdns.wire.record import Record
from tests.support import world


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("example.com.", "example.com."),
        (r"\052.example.com", "*.example.com"),
        (r"weird\055ex\141mple\056com\056\056", "weird-example.com.."),
    ],
)
def test_unescapes(text: str, expected: str) -> None:
    assert unescaped(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"e\052ample.com", "`*' only supported as wildcard (leftmost label)"),
        (r"\000.example.com", r"invalid character: \000"),
        (r"\137.example.com", r"invalid character: \0137"),
        (r"example\0com", r"invalid escape sequence: '\0co'"),
        (r"example.com\0", r"invalid escape sequence: '\0'"),
        (r"\200", r"invalid escape sequence: '\200'"),
    ],
)
def test_escapes_that_are_not_accepted(text: str, expected: str) -> None:
    with pytest.raises(EscapeError) as raised:
        unescaped(text)
    assert str(raised.value) == expected


def record_set(name: str, rtype: str, *values: str, **fields: Any) -> dict[str, Any]:
    return {"Name": name, "Type": rtype, "TTL": 300, "ResourceRecords": [{"Value": one} for one in values], **fields}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(
            record_set("www.example.org.", "A", "192.0.2.1", "192.0.2.2"),
            ["www.example.org. 300 IN A 192.0.2.1", "www.example.org. 300 IN A 192.0.2.2"],
            id="addresses",
        ),
        pytest.param(
            record_set(r"\052.example.org.", "CNAME", "www.example.org"),
            ["*.example.org. 300 IN CNAME www.example.org."],
            id="wildcard",
        ),
        pytest.param(
            record_set("a.example.org.", "TXT", '"one" "two three"'),
            ['a.example.org. 300 IN TXT "one" "two three"'],
            id="strings",
        ),
        pytest.param(
            {"Name": "a.", "Type": "A", "AliasTarget": {"DNSName": "x.elb.amazonaws.com."}},
            [],
            id="an alias is left out",
        ),
    ],
)
def test_records(found: dict[str, Any], expected: list[str]) -> None:
    records: list[Record] = []
    assert records_of(found, records) == ""
    assert world.shown(records) == expected


def test_the_rest_of_a_record_set_is_left_out_after_an_error() -> None:
    records: list[Record] = []
    line = records_of(record_set("www.", "A", "192.0.2.1", "nothing", "192.0.2.3"), records)
    assert line.startswith("Failed to process resource record set: failed to parse resource record: ")
    assert len(records) == 1
    escaped = records_of(record_set(r"\000.", "A", "192.0.2.1"), records)
    assert escaped == (
        r"Failed to process resource record set: failed to unescape `\000.' name: invalid character: \000"
    )
    assert records_of(record_set("a.", "YOLO", "x"), records).startswith("Failed to process")
