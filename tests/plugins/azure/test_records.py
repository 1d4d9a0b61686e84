"""Record sets of Azure DNS become records."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugins.azure.records import records_of
from svcdns.wire.record import Record
from tests.support import world

SOA = {
    "host": "ns1.example.net", "email": "root.example.net", "serialNumber": 1, "refreshTime": 2, "retryTime": 3,
    "expireTime": 4, "minimumTTL": 5,
}  # fmt: skip


def record_set(**properties: Any) -> dict[str, Any]:
    return {"properties": {"TTL": 60, "fqdn": "a.example.org.", **properties}}


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        pytest.param({"ARecords": [{"ipv4Address": "192.0.2.1"}]}, "A 192.0.2.1", id="A"),
        pytest.param({"aRecords": [{"ipv4Address": "192.0.2.1"}]}, "A 192.0.2.1", id="A of a private zone"),
        pytest.param({"AAAARecords": [{"ipv6Address": "2001:db8::1"}]}, "AAAA 2001:db8::1", id="AAAA"),
        pytest.param({"MXRecords": [{"preference": 1, "exchange": "m.test"}]}, "MX 1 m.test.", id="MX"),
        pytest.param({"PTRRecords": [{"ptrdname": "p.test."}]}, "PTR p.test.", id="PTR"),
        pytest.param(
            {"SRVRecords": [{"priority": 1, "weight": 2, "port": 3, "target": "s.test"}]}, "SRV 1 2 3 s.test.", id="SRV"
        ),
        pytest.param(
            {"TXTRecords": [{"value": ["one two", 'q" \\']}]}, 'TXT "one two" "q\\" \\\\"', id="strings as they are"
        ),
        pytest.param({"NSRecords": [{"nsdname": "n.test"}]}, "NS n.test.", id="NS"),
        pytest.param({"CNAMERecord": {"cname": "c.test"}}, "CNAME c.test.", id="CNAME"),
        pytest.param({"SOARecord": SOA}, "SOA ns1.example.net. root.example.net. 1 2 3 4 5", id="SOA"),
    ],
)
def test_records(properties: dict[str, Any], expected: str) -> None:
    records: list[Record] = []
    assert records_of(record_set(**properties), records) == []
    assert world.shown(records) == [f"a.example.org. 60 IN {expected}"]


def test_other_types_are_left_out() -> None:
    records: list[Record] = []
    assert records_of(record_set(caaRecords=[{"flags": 0}], ARecords=None, metadata={}), records) == []
    assert records == []


def test_a_record_that_cannot_be_read_is_left_out() -> None:
    records: list[Record] = []
    found = records_of(
        record_set(ARecords=[{"ipv4Address": "x"}, {}, {"ipv4Address": "192.0.2.1"}], SOARecord={"host": "n"}), records
    )
    assert [line.partition(" error=")[0] for line in found] == [
        "a record is not used name=a.example.org. type=A",
        "a record is not used name=a.example.org. type=A",
        "a record is not used name=a.example.org. type=SOA",
    ]
    assert world.shown(records) == ["a.example.org. 60 IN A 192.0.2.1"]
