"""Reads zones of Azure DNS, in threads of the control process.

Only this module imports Microsoft's library for authentication. The requests are made with the library `requests`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from svcdns.plugins.azure.options import Source
from svcdns.plugins.azure.records import records_of
from svcdns.zones.hosted_zone_http import JsonApi, new_session
from svcdns.zones.hosted_zone_refresh import Fetched, Provider, Redactor
from svcdns.zones.hosted_zones import HostedZone, ProviderError

if TYPE_CHECKING:
    from svcdns.wire.record import Record

_KINDS: Final = {
    "public": ("dnsZones", "all", "recordsets", "2018-05-01"),
    "private": ("privateDnsZones", "ALL", "ALL", "2020-06-01"),
}
"""By access: the resource type, the pages for the check and for the fetch, and the version of the API."""


class AzureClient:
    """A client for one account."""

    def __init__(self, api: JsonApi, endpoint: str, subscription: str, token: Callable[[], str]) -> None:
        """`endpoint` is the URL of the management API. `token` returns a token, and may raise ProviderError."""
        self._api, self._endpoint, self._subscription, self._token = api, endpoint, subscription, token

    def _url(self, hosted: HostedZone, *, whole: bool) -> str:
        access, group, zone = hosted.ident.split("/", 2)
        kind, check, fetch, version = _KINDS[access]
        provider = ("providers", "Microsoft.Network", kind, zone, fetch if whole else check)
        parts = ("subscriptions", self._subscription, "resourceGroups", group, *provider)
        path = "/".join(quote(part, safe="") for part in parts)
        return f"{self._endpoint}/{path}?api-version={version}"

    def _get(self, url: str) -> dict[str, Any]:
        return self._api.get(url, {}, {"Authorization": f"Bearer {self._token()}"})

    def check(self, hosted: HostedZone) -> None:
        """Reads the first record sets of a zone. Raises ProviderError."""
        self._get(self._url(hosted, whole=False))

    def fetch(self, hosted: HostedZone) -> Fetched:
        """Returns the records of a zone. Raises ProviderError."""
        records: list[Record] = []
        warnings: list[str] = []
        url = self._url(hosted, whole=True)
        try:
            while True:
                page = self._get(url)
                for record_set in page.get("value", ()):
                    warnings += records_of(record_set, records)
                following = self._following(page, url)
                if not following:
                    return Fetched(records, warnings)
                url = following
        except ProviderError as error:
            name = hosted.ident.rpartition("/")[2]
            raise ProviderError(f"failed to list resource records for {name} from azure: {error}") from error

    def _following(self, page: dict[str, Any], url: str) -> str:
        """Returns the URL of the page after `page`, or an empty text. Raises ProviderError."""
        following = str(page.get("nextLink") or "")
        if following == url or (following and not following.startswith(f"{self._endpoint}/")):  # it gets the token
            raise ProviderError("the next page is not one of this API")
        return following


def connect(source: Source) -> AzureClient:
    """Returns a client. Raises ProviderError."""
    from azure.core.exceptions import AzureError
    from azure.identity import ClientSecretCredential, ManagedIdentityCredential

    redactor = Redactor([source.secret])
    management = f"https://{source.cloud.management}"
    try:
        if source.tenant and source.client and source.secret:
            credential: Any = ClientSecretCredential(
                source.tenant,
                source.client,
                source.secret,
                authority=source.cloud.login,
                disable_instance_discovery=True,
            )
        else:
            credential = ManagedIdentityCredential(client_id=source.client or None)
    except (AzureError, ValueError) as error:
        raise ProviderError(redactor.text(error)) from None

    def token() -> str:
        try:
            return str(credential.get_token(f"{management}/.default").token)
        except (AzureError, ValueError) as error:
            raise ProviderError(redactor.text(error)) from None

    return AzureClient(JsonApi(new_session(), redactor, described), management, source.subscription, token)


def described(status: int, value: Any) -> str:
    """Returns the last part of an error text, in the form of Microsoft's library for Go."""
    error = value.get("error") if isinstance(value, dict) else None
    code, message = (error.get("code"), error.get("message")) if isinstance(error, dict) else ("Unknown", "no message")
    return f'Service returned an error. Status={status} Code="{code}" Message="{message}"'


PROVIDER: Final = Provider(
    plugin="azure",
    package="azure.identity",
    connect=connect,
    loggers=("azure", "msal", "requests", "urllib3"),
    not_connected="",
    not_checked="",
    not_fetched="",
)
