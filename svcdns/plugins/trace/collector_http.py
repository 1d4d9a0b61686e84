"""HTTP requests to a collector of traces, from the thread of the exporter. The connection stays open between requests.

A collector is not trusted: each step has a time limit, and of a response only the status and a few octets are read.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from svcdns.errors import SvcdnsError

TIMEOUT: Final = 5.0
"""The seconds that each step of a request may take: to connect, to send, and to receive some octets."""
MAX_BODY: Final = 16_384
"""The octets of a response that are read. After a longer response, the connection is closed."""


class CollectorError(SvcdnsError):
    """Raised if a collector cannot be reached, or does not accept a request."""


class CollectorHttp:
    """The connection to one collector."""

    def __init__(self, url: str, method: str, headers: Mapping[str, str]) -> None:
        """`headers` are those of every request."""
        parts = urlsplit(url)
        self._method, self._headers = method, dict(headers)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.hostname or ""
        self._connection = (
            http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT, context=ssl.create_default_context())
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT)
        )

    def send(self, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Sends one request. Raises CollectorError."""
        was_open = self._connection.sock is not None
        try:
            status = self._request(body, headers or {})
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            if not was_open or isinstance(error, TimeoutError):
                raise CollectorError(f"{type(error).__name__}: {error}") from error
            status = self._request_again(body, headers or {})
        if not 200 <= status < 300:
            raise CollectorError(f"the collector answered with status {status}")

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _request_again(self, body: bytes, headers: Mapping[str, str]) -> int:
        """Sends the request on a new connection: the collector may have closed the other one while it was idle."""
        try:
            return self._request(body, headers)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise CollectorError(f"{type(error).__name__}: {error}") from error

    def _request(self, body: bytes, headers: Mapping[str, str]) -> int:
        self._connection.request(self._method, self._target, body, self._headers | dict(headers))
        response = self._connection.getresponse()
        response.read(MAX_BODY)
        if not response.isclosed():
            self._connection.close()
        return response.status
