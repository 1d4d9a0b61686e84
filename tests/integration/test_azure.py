"""*azure* with a double of the APIs of Azure, and CoreDNS beside it. See tests/integration/test_route53.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.extras import ExtrasServer, needs_extras, same_answers_as_coredns
from tests.support.provider_doubles import CLIENT_SECRET, SOA, TOKEN, ProviderDouble, RecordSet
from tests.support.server import http, until

pytestmark = [pytest.mark.integration, needs_extras]
RECORDS = [
    RecordSet("example.org.", "SOA", 60, (SOA,)),
    RecordSet("www.example.org.", "A", 60, ("192.0.2.1", "192.0.2.2")),
    RecordSet("www.example.org.", "AAAA", 60, ("2001:db8::1",)),
    RecordSet("*.wild.example.org.", "A", 60, ("192.0.2.3",)),
    RecordSet("alias.example.org.", "CNAME", 60, ("www.example.org",)),
    RecordSet("txt.example.org.", "TXT", 60, ('"one" "two"', '"three"')),
    RecordSet("mx.example.org.", "MX", 60, ("10 www.example.org",)),
    RecordSet("ptr.example.org.", "PTR", 60, ("www.example.org",)),
    RecordSet("_s._tcp.example.org.", "SRV", 60, ("1 2 80 www.example.org",)),
]
SERVERS = [RecordSet("example.org.", "NS", 60, ("ns-1.example.net.", "ns-2.example.net."))]
QUERIES = [
    *((found.name.replace("*", "x"), found.rtype) for found in (*RECORDS, *SERVERS)),
    ("no.example.org.", "A"), ("wild.example.org.", "A"), ("alias.example.org.", "A"), ("_tcp.example.org.", "A"),
    ("mx.example.org.", "A"), ("www.example.com.", "A"),
]  # fmt: skip


def corefile(access: str = "public", more: str = "") -> str:
    account = f"tenant t-1\n client c-1\n secret {CLIENT_SECRET}\n subscription s-1"
    return (
        f".:{{port}} {{\n bind 127.0.0.1\n azure group:example.org {{\n {account}\n access {access}\n"
        f" fallthrough no.example.org\n }}\n{more}}}\n"
    )


@pytest.mark.parametrize("access", ["public", "private"])
def test_the_same_answers_as_coredns(access: str, tmp_path: Path) -> None:
    records = RECORDS if access == "private" else [*RECORDS, *SERVERS]
    queries = [(name, rtype) for name, rtype in QUERIES if (name, rtype, access) != ("example.org.", "NS", "private")]
    with ProviderDouble(tmp_path, records) as double:
        same_answers_as_coredns(tmp_path, corefile(access), double.environment, queries)
        kind = {"public": "/dnsZones/", "private": "/privateDnsZones/"}[access]
        assert [path for path in double.paths if "Zones/" in path and kind not in path] == []


def test_a_start(tmp_path: Path) -> None:
    with ProviderDouble(tmp_path, RECORDS) as double:
        more = " prometheus 127.0.0.1:{metrics}\n debug\n"
        with ExtrasServer(tmp_path, corefile(more=more), **double.environment) as server:
            server.until_serving()
            assert server.records("www.example.org.") == ["192.0.2.1", "192.0.2.2"]
            metrics = until("metrics", lambda: http(server.ports["metrics"], "/metrics")[1])
            assert 'svcdns_hosted_zone_last_fetch_timestamp_seconds{id="public/group/example.org"' in metrics
            assert not [secret for secret in (CLIENT_SECRET, TOKEN) if secret in server.log + metrics]


def test_errors_have_no_credentials(tmp_path: Path) -> None:
    with ProviderDouble(tmp_path, RECORDS) as double:
        double.failure = 404, {"error": {"code": "ResourceNotFound", "message": f"no zone for {CLIENT_SECRET}"}}
        with ExtrasServer(tmp_path, corefile(), **double.environment) as server:
            assert server.process.wait(60) == 1
            text = (
                'plugin/azure: Service returned an error. Status=404 Code="ResourceNotFound" Message="no zone for ..."'
            )
            assert f"Corefile:3:2 - Error during parsing: {text}" in server.log
            assert CLIENT_SECRET not in server.log
