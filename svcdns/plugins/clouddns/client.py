"""Reads managed zones of Google Cloud DNS, in threads of the control process.

Only this module imports Google's library for authentication. The requests are made with the library `requests`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from svcdns.log_line import LogLine
from svcdns.plugins.clouddns.options import Source
from svcdns.wire.zone_words import ZoneFileError
from svcdns.zones.hosted_zone_http import JsonApi, prepare, readable
from svcdns.zones.hosted_zone_refresh import Fetched, Provider, Redactor
from svcdns.zones.hosted_zones import HostedZone, ProviderError

if TYPE_CHECKING:
    from svcdns.wire.record import Record

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
"""The scope of tokens. The roles of the account limit what a token allows."""
TYPES: Final = ("service_account", "authorized_user", "impersonated_service_account", "external_account")
"""The types of credentials files that CoreDNS accepts."""
_SECRETS: Final = ("private_key", "private_key_id", "client_secret", "refresh_token")
_DOTTED: Final = ("CNAME", "PTR")
"""The types whose values get a final dot if they have none."""


class CloudDnsClient:
    """A client for one set of credentials."""

    def __init__(self, api: JsonApi, endpoint: str) -> None:
        """`endpoint` is the URL of the service, without a final slash."""
        self._api, self._endpoint = api, endpoint

    def _url(self, hosted: HostedZone) -> str:
        project, _, zone = hosted.ident.partition(":")
        return f"{self._endpoint}/dns/v1/projects/{quote(project, safe='')}/managedZones/{quote(zone, safe='')}"

    def check(self, hosted: HostedZone) -> None:
        """Reads the description of a zone. Raises ProviderError."""
        self._api.get(self._url(hosted), {})

    def fetch(self, hosted: HostedZone) -> Fetched:
        """Returns the records of a zone. Raises ProviderError."""
        records: list[Record] = []
        warnings: list[str] = []
        token = ""
        failure = f"failed to list resource records for {hosted.zone}:{hosted.ident} from gcp: "
        while True:
            try:
                page = self._api.get(f"{self._url(hosted)}/rrsets", {"pageToken": token} if token else {})
            except ProviderError as error:
                raise ProviderError(f"{failure}{error}") from error
            for record_set in page.get("rrsets", ()):
                warnings += records_of(record_set, records)
            following = page.get("nextPageToken", "")
            if not following:
                return Fetched(records, warnings)
            if following == token:
                raise ProviderError(f"{failure}the list does not end")
            token = following


def records_of(record_set: Mapping[str, Any], records: list[Record]) -> list[str]:
    """Appends the records of a record set to `records`. Returns a log line for each record that cannot be read.

    A record set with a routing policy has no records.
    """
    from svcdns.wire.zone_text import read_record

    name, rtype = record_set.get("name", ""), record_set.get("type", "")
    warnings: list[str] = []
    for value in record_set.get("rrdatas", ()):
        text = f"{value}." if rtype in _DOTTED and not value.endswith(".") else value
        try:
            records.append(read_record(f"{name} {record_set.get('ttl', 0)} IN {rtype} {text}"))
        except ZoneFileError as error:
            warnings.append(LogLine("a record is not used", name=name, type=rtype, error=error))
    return warnings


def connect(source: Source) -> CloudDnsClient:
    """Returns a client. Raises ProviderError."""
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import AuthorizedSession

    content: dict[str, Any] = {}
    if source.credentials:
        try:
            content = _credentials(readable(source.credentials))
        except ProviderError as error:
            raise ProviderError(f'invalid credentials file "{source.credentials}": {error}') from error
    redactor = Redactor(text for name, text in content.items() if name in _SECRETS and isinstance(text, str))
    try:
        if content:
            credentials, _ = google.auth.load_credentials_from_dict(content, scopes=[SCOPE])
        else:
            credentials, _ = google.auth.default(scopes=[SCOPE])
    except (GoogleAuthError, ValueError) as error:
        raise ProviderError(redactor.text(error)) from None
    session = AuthorizedSession(credentials)
    prepare(session)
    return CloudDnsClient(
        JsonApi(session, redactor, described, (GoogleAuthError,)), f"https://dns.{credentials.universe_domain}"
    )


def _credentials(data: bytes) -> dict[str, Any]:
    """Returns the content of a credentials file. Raises ProviderError."""
    try:
        content = json.loads(data)
    except ValueError:  # the text of the error might have a part of the file
        raise ProviderError("the file is not JSON") from None
    kind = content.get("type") if isinstance(content, dict) else None
    if not kind:
        raise ProviderError("missing `type` field in credential")
    if kind not in TYPES:
        raise ProviderError(f"unknown credential type: {kind}")
    return dict(content)


def described(status: int, value: Any) -> str:
    """Returns the text for an error reply, in the form of Google's library for Go."""
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict) or not error.get("message"):
        return f"googleapi: got HTTP response code {status}"
    reasons = [one.get("reason") for one in error.get("errors", ()) if isinstance(one, dict)]
    return f"googleapi: Error {status}: {error['message']}" + (f", {reasons[0]}" if len(reasons) == 1 else "")


PROVIDER: Final = Provider(
    plugin="clouddns",
    package="google.auth",
    connect=connect,
    loggers=("google", "requests", "urllib3"),
    not_connected="",
    not_checked="failed to create plugin: ",
    not_fetched="failed to initialize plugin: ",
)
