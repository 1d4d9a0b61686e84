"""Reading hosted zones of Route 53, with a double of the AWS library."""

from __future__ import annotations

import logging
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from svcdns.plugins import route53
from svcdns.plugins.route53 import client
from svcdns.plugins.route53.options import Source
from svcdns.zones.hosted_zone_refresh import Redactor
from svcdns.zones.hosted_zones import HostedZone, ProviderError
from tests.support import world

ZONE = HostedZone("example.org.", "Z1")


class LibraryError(Exception):
    """Stands for the errors of the AWS library."""


class Library:
    """The parts of the AWS library that are used. `pages` are the replies to list requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *pages: dict[str, Any] | Exception) -> None:
        self.pages, self.requests, self.variables = list(pages), list[dict[str, Any]](), dict[str, Any]()
        self.profile: str | None = None
        self.static: tuple[str, str] | None = None
        self.client: dict[str, Any] = {}
        errors = {"BotoCoreError": LibraryError, "ClientError": LibraryError}
        modules: dict[str, dict[str, Any]] = {
            "botocore": {"__spec__": SimpleNamespace()},
            "botocore.session": {"Session": self._session},
            "botocore.config": {"Config": dict},
            "botocore.exceptions": errors,
            "botocore.utils": {"IMDSRegionProvider": lambda _: SimpleNamespace(provide=lambda: None)},
        }
        for name, values in modules.items():
            module = ModuleType(name)
            vars(module).update(values)
            monkeypatch.setitem(sys.modules, name, module)
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, module)

    def _session(self, profile: str | None) -> Library:
        self.profile = profile
        return self

    def set_config_variable(self, name: str, value: str) -> None:
        self.variables[name] = value

    def get_config_variable(self, name: str) -> str | None:
        return self.variables.get(name)

    def set_credentials(self, key: str, secret: str) -> None:
        self.static = key, secret

    def get_credentials(self) -> Any:
        if self.static is None:
            return None
        key, secret = self.static
        return SimpleNamespace(
            get_frozen_credentials=lambda: SimpleNamespace(access_key=key, secret_key=secret, token="sekret-token")
        )

    def create_client(self, name: str, **fields: Any) -> Library:
        self.client = {"name": name, **fields}
        return self

    def list_hosted_zones_by_name(self, **fields: Any) -> dict[str, Any]:
        self.requests.append(fields)
        return {}

    def list_resource_record_sets(self, **fields: Any) -> dict[str, Any]:
        self.requests.append(fields)
        page = self.pages.pop(0)
        if isinstance(page, Exception):
            raise page
        return page


def page(*addresses: str, **following: str) -> dict[str, Any]:
    values = [{"Value": address} for address in addresses]
    found = {"Name": "www.example.org.", "Type": "A", "TTL": 60, "ResourceRecords": values}
    return {"ResourceRecordSets": [found], "IsTruncated": bool(following), **following}


@pytest.fixture(autouse=True)
def _region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_SDK_LOAD_CONFIG", raising=False)


def test_all_pages_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(
        monkeypatch,
        page("192.0.2.1", NextRecordName="www.", NextRecordType="A", NextRecordIdentifier="one"),
        page("192.0.2.2"),
    )
    found = client.connect(Source((ZONE,))).fetch(ZONE)
    assert world.shown(found.records) == ["www.example.org. 60 IN A 192.0.2.1", "www.example.org. 60 IN A 192.0.2.2"]
    assert library.requests[1] == {
        "HostedZoneId": "Z1",
        "MaxItems": "1000",
        "StartRecordName": "www.",
        "StartRecordType": "A",
        "StartRecordIdentifier": "one",
    }


def test_a_list_without_an_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Library(monkeypatch, *(page("192.0.2.1", NextRecordName="www.") for _ in range(3)))
    with pytest.raises(ProviderError, match="the list does not end"):
        client.connect(Source((ZONE,))).fetch(ZONE)


def test_the_options_reach_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(monkeypatch)
    source = Source((ZONE,), 60.0, "http://localhost:1", "AKIA-ID", "sekret-key", "profile", "/etc/aws")
    client.connect(source).check(ZONE)
    assert library.requests == [{"DNSName": "example.org.", "HostedZoneId": "Z1"}]
    assert (library.profile, library.static) == ("profile", ("AKIA-ID", "sekret-key"))
    assert library.client["endpoint_url"] == "http://localhost:1"
    assert library.variables == {"credentials_file": "/etc/aws", "config_file": "/etc/aws", "region": "eu-west-1"}


def test_the_configuration_file_is_read_too_if_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SDK_LOAD_CONFIG", "1")
    library = Library(monkeypatch)
    client.connect(Source((ZONE,), credentials_file="/etc/aws"))
    assert "config_file" not in library.variables


def test_a_region_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    Library(monkeypatch)
    with pytest.raises(ProviderError, match=r"^failed to get region from IMDS: "):
        client.connect(Source((ZONE,)))


def test_errors_have_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    Library(monkeypatch, LibraryError("AKIA-ID may not use sekret-key with sekret-token"))
    connected = client.connect(Source((ZONE,), access_key="AKIA-ID", secret_key="sekret-key"))
    with pytest.raises(ProviderError) as raised:
        connected.fetch(ZONE)
    assert str(raised.value) == (
        "failed to list resource records for example.org.:Z1 from route53: ... may not use ... with ..."
    )
    assert raised.value.__cause__ is None


def test_a_list_that_is_refused_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Library(monkeypatch)
    api = SimpleNamespace(list_hosted_zones_by_name=lambda **_: (_ for _ in ()).throw(LibraryError("denied")))
    with pytest.raises(ProviderError, match=r"^denied$"):
        client.Route53Client(api, Redactor(())).check(ZONE)


def test_keys_in_the_corefile_are_deprecated(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    Library(monkeypatch)
    options = world.options("route53", "route53 {\n aws_access_key AKIAID SEKRET\n}")
    assert route53.gather(options, {}) == {}
    assert [(record.levelno, record.message) for record in caplog.records] == [(logging.WARNING, route53.DEPRECATED)]
    assert route53.sources(options) == ()
