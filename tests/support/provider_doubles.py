"""A double of the HTTP APIs of DNS providers. Every hosted zone exists, and has the records that the test sets.

The server is also an HTTPS proxy, which answers itself instead of connecting to the hosts of Google and Microsoft.
"""

from __future__ import annotations

import functools
import json
import re
import ssl
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

import trustme

HOSTS: Final = ("dns.googleapis.com", "oauth2.googleapis.com", "login.microsoftonline.com", "management.azure.com")
SOA: Final = "ns-1.example.net. hostmaster.example.net. 1 7200 900 1209600 86400"
TOKEN: Final = "token-of-the-provider"
CLIENT_SECRET: Final = "secret-of-the-client"
_ROUTE53: Final = "https://route53.amazonaws.com/doc/2013-04-01/"
_SOA_FIELDS: Final = ("serialNumber", "refreshTime", "retryTime", "expireTime", "minimumTTL")
_PAGE: Final = 4
"""The number of record sets in a page."""


class RecordSet(NamedTuple):
    """Records of a name and a type, as zone text."""

    name: str
    rtype: str
    ttl: int
    values: tuple[str, ...]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        double: ProviderDouble = self.server.double  # type: ignore[attr-defined]
        self.connection = double.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", 0)
        self.close_connection = False

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.rfile.read(length)
        double: ProviderDouble = self.server.double  # type: ignore[attr-defined]
        status, kind, body = double.answer(self.path, self.headers.get("Authorization", ""))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        """Writes nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Ignores clients that end in the middle of a request."""


class ProviderDouble:
    """A running server. The plugins reach it through the variables of `environment`."""

    def __init__(self, folder: Path, records: Sequence[RecordSet] = ()) -> None:
        """`folder` gets the file with the authority of the server's certificate."""
        self.records = list(records) or [RecordSet("example.org.", "SOA", 60, (SOA,))]
        self.failure: tuple[int, Any] | None = None
        """The status and the JSON value of each reply to a request for a zone, if it is not None."""
        self.paths: list[str] = []
        authority = _authority()
        self.authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(self.authority)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _certificate().configure_cert(self.tls)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.double = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def environment(self) -> dict[str, str]:
        """The variables with the address of this server, and with credentials."""
        return {
            "AWS_ENDPOINT_URL_ROUTE_53": self.url,
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "secret-of-aws",
            "AZURE_SECRET": CLIENT_SECRET,
            "HTTPS_PROXY": self.url,
            "NO_PROXY": "127.0.0.1",
            "SSL_CERT_FILE": str(self.authority),
            "REQUESTS_CA_BUNDLE": str(self.authority),
        }

    def answer(self, target: str, authorization: str) -> tuple[int, str, bytes]:
        """Returns the status, the media type and the body of a reply."""
        parts = urlsplit(target)
        path, parameters = parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.paths.append(path)
        if path.startswith("/2013-04-01/"):
            return 200, "text/xml", self._route53(path)
        if path.endswith(("/token", "/.well-known/openid-configuration")):
            return 200, "application/json", json.dumps(_login(path)).encode()
        status, value = self._zone(path, parameters) if authorization == f"Bearer {TOKEN}" else (401, {})
        return status, "application/json", json.dumps(value).encode()

    def _zone(self, path: str, parameters: dict[str, str]) -> tuple[int, Any]:
        if self.failure is not None:
            return self.failure
        start = int(parameters.get("pageToken") or parameters.get("$skipToken") or 0)
        page, end = self.records[start : start + _PAGE], start + _PAGE
        more = end < len(self.records)
        if re.fullmatch(r"/dns/v1/projects/[^/]+/managedZones/[^/]+", path):
            return 200, {"name": "zone"}
        if path.startswith("/dns/v1/") and path.endswith("/rrsets"):
            found = [{"name": r.name, "type": r.rtype, "ttl": r.ttl, "rrdatas": list(r.values)} for r in page]
            return 200, {"rrsets": found, **({"nextPageToken": str(end)} if more else {})}
        if match := re.fullmatch(r"/subscriptions/.*/(dnsZones|privateDnsZones)/[^/]+/(all|ALL|recordsets)", path):
            link = f"https://management.azure.com{path}?api-version=1&$skipToken={end}"
            value = [_azure_set(r, is_private=match[1] == "privateDnsZones") for r in page]
            return 200, {"value": value, **({"nextLink": link} if more else {})}
        return 404, {"error": {"code": 404, "message": "no such page"}}

    def _route53(self, path: str) -> bytes:
        if path == "/2013-04-01/hostedzonesbyname":
            name, body = "ListHostedZonesByNameResponse", "<HostedZones/>"
        else:
            name = "ListResourceRecordSetsResponse"
            body = f"<ResourceRecordSets>{''.join(map(_route53_set, self.records))}</ResourceRecordSets>"
        end = "<IsTruncated>false</IsTruncated><MaxItems>1000</MaxItems>"
        return f'<?xml version="1.0"?><{name} xmlns="{_ROUTE53}">{body}{end}</{name}>'.encode()


def _route53_set(found: RecordSet) -> str:
    values = "".join(f"<ResourceRecord><Value>{value}</Value></ResourceRecord>" for value in found.values)
    fields = f"<Name>{found.name}</Name><Type>{found.rtype}</Type><TTL>{found.ttl}</TTL>"
    return f"<ResourceRecordSet>{fields}<ResourceRecords>{values}</ResourceRecords></ResourceRecordSet>"


def _azure_set(found: RecordSet, *, is_private: bool) -> dict[str, Any]:
    """Returns a record set of Azure. The names of its properties differ between public and private zones."""
    fields: dict[str, Callable[[list[str]], dict[str, Any]]] = {
        "A": lambda v: {"ipv4Address": v[0]},
        "AAAA": lambda v: {"ipv6Address": v[0]},
        "MX": lambda v: {"preference": int(v[0]), "exchange": v[1]},
        "NS": lambda v: {"nsdname": v[0]},
        "PTR": lambda v: {"ptrdname": v[0]},
        "SRV": lambda v: {"priority": int(v[0]), "weight": int(v[1]), "port": int(v[2]), "target": v[3]},
        "TXT": lambda v: {"value": [word.strip('"') for word in v]},
        "CNAME": lambda v: {"cname": v[0]},
        "SOA": lambda v: {
            **dict(zip(("host", "email"), v, strict=False)),
            **dict(zip(_SOA_FIELDS, map(int, v[2:]), strict=True)),
        },
    }
    made = [fields[found.rtype](value.split()) for value in found.values]
    is_single = found.rtype in ("SOA", "CNAME")
    name = f"{found.rtype.lower() if is_private else found.rtype}Record{'' if is_single else 's'}"
    properties = {"ttl" if is_private else "TTL": found.ttl, "fqdn": found.name, name: made[0] if is_single else made}
    return {"name": found.name, "type": f"Microsoft.Network/dnsZones/{found.rtype}", "properties": properties}


def _login(path: str) -> dict[str, Any]:
    if path.endswith("/token"):
        return {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600, "expires_on": "2000000000"}
    tenant = f"https://login.microsoftonline.com/{path.split('/')[1]}"
    return {
        "authorization_endpoint": f"{tenant}/authorize",
        "token_endpoint": f"{tenant}/oauth2/v2.0/token",
        "issuer": f"{tenant}/v2.0",
    }


@functools.cache
def _authority() -> trustme.CA:
    return trustme.CA()


@functools.cache
def _certificate() -> trustme.LeafCert:
    return _authority().issue_cert(*HOSTS)


def google_credentials() -> str:
    """Returns the text of a credentials file of Google, with a refresh token."""
    return json.dumps(
        {
            "type": "authorized_user",
            "client_id": "client",
            "client_secret": CLIENT_SECRET,
            "refresh_token": "secret-refresh-token",
        }
    )
