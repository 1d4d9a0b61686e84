"""Reading managed zones of Google Cloud DNS. tests/integration/test_clouddns.py has tests with Google's library."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugins import clouddns
from svcdns.plugins.clouddns.client import CloudDnsClient, described, records_of
from svcdns.wire.record import Record
from svcdns.zones.hosted_zone_http import JsonApi
from svcdns.zones.hosted_zone_refresh import Redactor
from svcdns.zones.hosted_zones import HostedZone, ProviderError
from tests.support import world
from tests.support.http_session import Session

ZONE = HostedZone("example.org.", "project:my/zone")
URL = "https://dns.googleapis.com/dns/v1/projects/project/managedZones/my%2Fzone"


def client(session: Session) -> CloudDnsClient:
    return CloudDnsClient(JsonApi(session, Redactor(()), described), "https://dns.googleapis.com")


def test_all_pages_are_read() -> None:
    one, two = ({"name": "www.example.org.", "type": "A", "ttl": 60, "rrdatas": [f"192.0.2.{n}"]} for n in (1, 2))
    session = Session((200, {"rrsets": [one], "nextPageToken": "more"}), (200, {"rrsets": [two]}))
    found = client(session).fetch(ZONE)
    assert world.shown(found.records) == ["www.example.org. 60 IN A 192.0.2.1", "www.example.org. 60 IN A 192.0.2.2"]
    assert session.requests == [(f"{URL}/rrsets", {}), (f"{URL}/rrsets", {"pageToken": "more"})]


def test_a_zone_is_looked_for_at_the_start() -> None:
    session = Session((200, {}))
    client(session).check(ZONE)
    assert session.requests == [(URL, {})]


def test_a_list_without_an_end_is_an_error() -> None:
    session = Session(*((200, {"nextPageToken": "more"}) for _ in range(3)))
    with pytest.raises(ProviderError, match="the list does not end"):
        client(session).fetch(ZONE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(
            {"error": {"message": "no such zone", "errors": [{"reason": "notFound"}]}},
            "googleapi: Error 404: no such zone, notFound",
            id="a reason",
        ),
        pytest.param({"error": {"message": "no such zone"}}, "googleapi: Error 404: no such zone", id="no reason"),
        pytest.param(None, "googleapi: got HTTP response code 404", id="no JSON"),
    ],
)
def test_errors_of_the_api(value: Any, expected: str) -> None:
    with pytest.raises(ProviderError) as raised:
        client(Session((404, value))).fetch(ZONE)
    assert str(raised.value) == (
        f"failed to list resource records for example.org.:project:my/zone from gcp: {expected}"
    )


@pytest.mark.parametrize(
    ("record_set", "expected"),
    [
        pytest.param(
            {"name": "a.example.org.", "type": "CNAME", "ttl": 5, "rrdatas": ["www.example.org"]},
            ["a.example.org. 5 IN CNAME www.example.org."],
            id="a final dot is added",
        ),
        pytest.param(
            {"name": "a.", "type": "A", "ttl": 5, "routingPolicy": {"wrr": {}}},
            [],
            id="a routing policy has no records",
        ),
        pytest.param(
            {"name": "a.", "type": "TXT", "ttl": 5, "rrdatas": ['"x y"']}, ['a. 5 IN TXT "x y"'], id="a string"
        ),
    ],
)
def test_records(record_set: dict[str, Any], expected: list[str]) -> None:
    records: list[Record] = []
    assert records_of(record_set, records) == []
    assert world.shown(records) == expected


def test_a_record_that_cannot_be_read_is_left_out() -> None:
    records: list[Record] = []
    found = records_of({"name": "a.", "type": "A", "ttl": 5, "rrdatas": ["192.0.2.1", "x", "192.0.2.3"]}, records)
    found += records_of({"name": "a.", "type": "ALIAS", "ttl": 5, "rrdatas": ["b."]}, records)
    assert world.shown(records) == ["a. 5 IN A 192.0.2.1", "a. 5 IN A 192.0.2.3"]
    assert [line.partition(" error=")[0] for line in found] == [
        "a record is not used name=a. type=A",
        "a record is not used name=a. type=ALIAS",
    ]


def test_zones_of_all_directives_are_refreshed() -> None:
    options = world.options("clouddns", "clouddns a.:p:z\nclouddns")
    assert [source.hosted for source in clouddns.sources(options)] == [(HostedZone("a.", "p:z"),)]
