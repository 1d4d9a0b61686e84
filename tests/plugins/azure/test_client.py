"""Reading zones of Azure DNS. tests/integration/test_azure.py has tests with Microsoft's library."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from svcdns.plugins import azure
from svcdns.plugins.azure import client
from svcdns.plugins.azure.client import AzureClient, described
from svcdns.plugins.azure.options import Source
from svcdns.zones.hosted_zone_http import JsonApi
from svcdns.zones.hosted_zone_refresh import Redactor
from svcdns.zones.hosted_zones import HostedZone, ProviderError
from tests.support import world
from tests.support.http_session import Session

ZONE = HostedZone("example.org.", "public/my group/example.org")
PRIVATE = HostedZone("example.org.", "private/my group/example.org")
URL = "https://m/subscriptions/s/resourceGroups/my%20group/providers/Microsoft.Network/"
PAGE = {"value": [{"properties": {"TTL": 60, "fqdn": "a.", "ARecords": [{"ipv4Address": "192.0.2.1"}]}}]}


def made(session: Session) -> AzureClient:
    return AzureClient(JsonApi(session, Redactor(()), described), "https://m", "s", lambda: "token")


def test_all_pages_are_read() -> None:
    session = Session((200, {**PAGE, "nextLink": "https://m/next"}), (200, PAGE))
    assert len(made(session).fetch(ZONE).records) == 2
    first = f"{URL}dnsZones/example.org/recordsets?api-version=2018-05-01"
    assert session.requests == [(first, {}), ("https://m/next", {})]
    assert session.headers == [{"Authorization": "Bearer token"}] * 2


@pytest.mark.parametrize(
    ("zone", "check", "fetch"),
    [
        pytest.param(ZONE, "dnsZones/example.org/all", "dnsZones/example.org/recordsets", id="public"),
        pytest.param(PRIVATE, "privateDnsZones/example.org/ALL", "privateDnsZones/example.org/ALL", id="private"),
    ],
)
def test_the_kinds_of_zones(zone: HostedZone, check: str, fetch: str) -> None:
    session = Session((200, {}), (200, PAGE))
    made(session).check(zone)
    made(session).fetch(zone)
    assert [url.partition("?")[0] for url, _ in session.requests] == [URL + check, URL + fetch]


@pytest.mark.parametrize("link", ["https://elsewhere/", "https://m.elsewhere/"])
def test_the_token_is_sent_to_no_other_host(link: str) -> None:
    session = Session((200, {**PAGE, "nextLink": link}))
    with pytest.raises(ProviderError, match="the next page is not one of this API"):
        made(session).fetch(ZONE)
    assert len(session.requests) == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param({"error": {"code": "X", "message": "why"}}, 'Status=404 Code="X" Message="why"', id="an error"),
        pytest.param(None, 'Status=404 Code="Unknown" Message="no message"', id="no JSON"),
    ],
)
def test_errors_of_the_api(value: Any, expected: str) -> None:
    with pytest.raises(ProviderError) as raised:
        made(Session((404, value))).fetch(ZONE)
    assert str(raised.value) == (
        f"failed to list resource records for example.org from azure: Service returned an error. {expected}"
    )


class LibraryError(Exception):
    """Stands for the errors of Microsoft's library."""


class Library:
    """The parts of Microsoft's library that are used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[tuple[str, tuple[str, ...], dict[str, Any]]] = []
        self.error: Exception | None = None
        self.scopes: list[str] = []
        kinds = ("ClientSecretCredential", "ManagedIdentityCredential")
        modules: dict[str, dict[str, Any]] = {
            "azure": {},
            "azure.core": {},
            "azure.core.exceptions": {"AzureError": LibraryError},
            "azure.identity": {kind: self._credential(kind) for kind in kinds},
        }
        for name, values in modules.items():
            module = ModuleType(name)
            vars(module).update(values)
            monkeypatch.setitem(sys.modules, name, module)

    def _credential(self, kind: str) -> Any:
        def make(*arguments: str, **fields: Any) -> Library:
            self.made.append((kind, arguments, fields))
            return self

        return make

    def get_token(self, scope: str) -> Any:
        self.scopes.append(scope)
        if self.error is not None:
            raise self.error
        return SimpleNamespace(token="token")


ACCOUNT = Source((ZONE,), tenant="t", client="c", secret="sekret-secret", subscription="s")


def test_an_account_with_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    library, session = Library(monkeypatch), Session((200, {}))
    monkeypatch.setattr(client, "new_session", lambda: session)
    client.connect(ACCOUNT).check(ZONE)
    assert [(kind, arguments) for kind, arguments, _ in library.made] == [
        ("ClientSecretCredential", ("t", "c", "sekret-secret"))
    ]
    assert library.made[0][2]["authority"] == "login.microsoftonline.com"
    assert library.scopes == ["https://management.azure.com/.default"]
    assert session.requests[0][0].startswith("https://management.azure.com/subscriptions/s/")


def test_a_managed_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(monkeypatch)
    monkeypatch.setattr(client, "new_session", Session)
    client.connect(Source((ZONE,), client="c"))
    client.connect(Source((ZONE,)))
    assert [(kind, fields) for kind, _, fields in library.made] == [
        ("ManagedIdentityCredential", {"client_id": "c"}),
        ("ManagedIdentityCredential", {"client_id": None}),
    ]


def test_errors_have_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(monkeypatch)
    library.error = LibraryError("the secret sekret-secret is wrong")
    monkeypatch.setattr(client, "new_session", Session)
    with pytest.raises(ProviderError, match=r"^the secret \.\.\. is wrong$") as raised:
        client.connect(ACCOUNT).check(ZONE)
    assert raised.value.__cause__ is None


def test_a_block_without_zones_has_no_sources() -> None:
    assert azure.sources(world.options("azure", "azure")) == ()
