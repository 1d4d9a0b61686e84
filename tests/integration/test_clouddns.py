"""*clouddns* with a double of Google's API, and CoreDNS beside it. See tests/integration/test_route53.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.extras import ExtrasServer, needs_extras, same_answers_as_coredns
from tests.support.provider_doubles import CLIENT_SECRET, SOA, TOKEN, ProviderDouble, RecordSet, google_credentials
from tests.support.server import http, until

pytestmark = [pytest.mark.integration, needs_extras]
ZONE = "example.org.:project:zone"
RECORDS = [
    RecordSet("example.org.", "SOA", 60, (SOA,)),
    RecordSet("example.org.", "NS", 60, ("ns-1.example.net.", "ns-2.example.net.")),
    RecordSet("www.example.org.", "A", 60, ("192.0.2.1", "192.0.2.2")),
    RecordSet("*.wild.example.org.", "A", 60, ("192.0.2.3",)),
    RecordSet("alias.example.org.", "CNAME", 60, ("www.example.org",)),
    RecordSet("policy.example.org.", "A", 60, ()),
    RecordSet("txt.example.org.", "TXT", 60, ('"one" "two words"',)),
    RecordSet("mx.example.org.", "MX", 60, ("10 www.example.org.",)),
    RecordSet("_s._tcp.example.org.", "SRV", 60, ("1 2 80 www.example.org.",)),
]
QUERIES = [
    *((found.name.replace("*", "x"), found.rtype) for found in RECORDS),
    ("no.example.org.", "A"), ("wild.example.org.", "A"), ("alias.example.org.", "A"), ("www.example.org.", "AAAA"),
    ("_tcp.example.org.", "A"), ("www.example.com.", "A"),
]  # fmt: skip


def corefile(folder: Path, more: str = "") -> str:
    path = folder / "credentials.json"
    path.write_text(google_credentials())
    return f".:{{port}} {{\n bind 127.0.0.1\n clouddns {ZONE} {{\n credentials {path}\n fallthrough no.example.org\n }}\n{more}}}\n"


def test_the_same_answers_as_coredns(tmp_path: Path) -> None:
    with ProviderDouble(tmp_path, RECORDS) as double:
        same_answers_as_coredns(tmp_path, corefile(tmp_path), double.environment, QUERIES)


def test_errors_have_no_credentials(tmp_path: Path) -> None:
    """A start with an error of the API ends. Its text has the error of the API, and no secret."""
    with ProviderDouble(tmp_path, RECORDS) as double:
        double.failure = (
            404,
            {"error": {"code": 404, "message": f"not found with {TOKEN}", "errors": [{"reason": "notFound"}]}},
        )
        with ExtrasServer(tmp_path, corefile(tmp_path), **double.environment) as server:
            assert server.process.wait(60) == 1
            text = "plugin/clouddns: failed to create plugin: googleapi: Error 404: not found with"
            assert f"Corefile:3:2 - Error during parsing: {text}" in server.log
            assert "Bearer" not in server.log
            assert not [secret for secret in (CLIENT_SECRET, "secret-refresh-token") if secret in server.log]


def test_a_start(tmp_path: Path) -> None:
    with ProviderDouble(tmp_path, RECORDS) as double:
        more = " prometheus 127.0.0.1:{metrics}\n debug\n"
        with ExtrasServer(tmp_path, corefile(tmp_path, more), **double.environment) as server:
            server.until_serving()
            assert server.records("www.example.org.") == ["192.0.2.1", "192.0.2.2"]
            metrics = until("metrics", lambda: http(server.ports["metrics"], "/metrics")[1])
            assert 'svcdns_hosted_zone_last_fetch_timestamp_seconds{id="project:zone",plugin="clouddns"' in metrics
            assert not [secret for secret in (CLIENT_SECRET, TOKEN) if secret in server.log + metrics]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(None, "no such file or directory", id="missing"),
        pytest.param("secret {", "the file is not JSON", id="no JSON"),
        pytest.param("{}", "missing `type` field in credential", id="no type"),
        pytest.param('{"type": "secret_kind"}', "unknown credential type: secret_kind", id="unknown type"),
    ],
)
def test_credentials_files_that_cannot_be_used(tmp_path: Path, content: str | None, expected: str) -> None:
    text = corefile(tmp_path)
    path = tmp_path / "credentials.json"
    path.unlink() if content is None else path.write_text(content)
    with ExtrasServer(tmp_path, text) as server:
        assert server.process.wait(60) == 1
        assert f'plugin/clouddns: invalid credentials file "{path}": ' in server.log
        assert expected in server.log
