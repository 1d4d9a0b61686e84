"""A double of the HTTP APIs of DNS providers. Every hosted zone exists, and has the records that the test sets."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

SOA = "ns-1.example.net. hostmaster.example.net. 1 7200 900 1209600 86400"
_ROUTE53 = "https://route53.amazonaws.com/doc/2013-04-01/"


class ProviderDouble:
    """A running HTTP server. The plugins reach it through the environment variables in `environment`."""

    def __init__(self) -> None:
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = double.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Writes nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

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
        }

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Returns the status, the media type and the body of a reply."""
        if path.startswith("/2013-04-01/hostedzonesbyname"):
            return 200, "text/xml", self._route53("ListHostedZonesByNameResponse", "<HostedZones/>")
        if path.startswith("/2013-04-01/hostedzone/"):
            soa = f"<ResourceRecord><Value>{SOA}</Value></ResourceRecord>"
            found = f"<Name>example.org.</Name><Type>SOA</Type><TTL>60</TTL><ResourceRecords>{soa}</ResourceRecords>"
            sets = f"<ResourceRecordSets><ResourceRecordSet>{found}</ResourceRecordSet></ResourceRecordSets>"
            return 200, "text/xml", self._route53("ListResourceRecordSetsResponse", sets)
        return 404, "text/plain", b"not found"

    @staticmethod
    def _route53(name: str, body: str) -> bytes:
        end = "<IsTruncated>false</IsTruncated><MaxItems>1000</MaxItems>"
        return f'<?xml version="1.0"?><{name} xmlns="{_ROUTE53}">{body}{end}</{name}>'.encode()
