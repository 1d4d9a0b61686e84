"""HTTP/1.1 requests and responses for the pages of control, without I/O (RFC 9110, RFC 9112).

The body of a request is not read. Every response has a length.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

MAX_HEAD: Final = 8192
"""The most octets of the request line and the header together."""

_END: Final = b"\r\n\r\n"


class MalformedRequestError(Exception):
    """Raised for octets that are not a request, and for a request that is too large. The client gets status 400."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request without its body. `path` is decoded and has no query. Names in `headers` are in lower case.

    `query` has the parameters after the `?`, decoded; of a parameter that occurs twice, the last value.

    If `keeps_alive` is true, the client may send another request on the connection. `has_body` is true if a body
    follows.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    keeps_alive: bool
    has_body: bool
    query: Mapping[str, str] = field(default_factory=dict)
    listener: str = ""
    """The host of the listener in the Corefile."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response with its body."""

    body: bytes
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    allow: str = ""
    """The methods that the page allows, for the status 405."""
    headers: Sequence[tuple[str, str]] = ()
    """Further header fields. Each value is one line of ASCII."""

    def encoded(self, *, body: bool, keeps_alive: bool) -> bytes:
        """Returns the octets of the response, without its body if `body` is false.

        If `keeps_alive` is false, the header states that the connection will be closed.
        """
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
        ]
        lines += [f"Allow: {self.allow}"] if self.allow else []
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += [] if keeps_alive else ["Connection: close"]
        return "\r\n".join(lines).encode("latin-1") + _END + (self.body if body else b"")


def parse(octets: bytes | bytearray) -> tuple[Request, int] | None:
    """Returns the first request in `octets` and the length of its header. Returns None if the header is not complete.

    Raises MalformedRequestError.
    """
    start = 0
    while octets.startswith(b"\r\n", start):  # RFC 9112 §2.2: empty lines before a request line are ignored
        start += 2
    state = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    state.receive_data(bytes(octets[start:]))
    try:
        request = state.next_event() if len(octets) > start else h11.NEED_DATA
        if request is h11.NEED_DATA and start <= MAX_HEAD:
            return None
        if not isinstance(request, h11.Request) or not request.http_version.startswith(b"1."):
            raise MalformedRequestError("not a request of HTTP/1")
        end = len(octets) - len(state.trailing_data[0])
        if end > MAX_HEAD:
            raise MalformedRequestError("the header is too large")
        has_body = not isinstance(state.next_event(), h11.EndOfMessage)
    except h11.RemoteProtocolError as error:
        raise MalformedRequestError(str(error)) from error
    headers: dict[str, str] = {}
    for octets_of_name, octets_of_value in request.headers:
        name, value = octets_of_name.decode("latin-1"), octets_of_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    method, target = request.method.decode("latin-1"), request.target.decode("latin-1")
    query = dict(parse_qsl(target.partition("?")[2].partition("#")[0]))
    return Request(method, _path(target), headers, state.their_state is h11.DONE, has_body, query), end


def _path(target: str) -> str:
    """Returns the path of a request target, without the query. Returns an empty text for a target without a path."""
    if target.startswith("/"):
        return unquote(target.partition("?")[0].partition("#")[0])
    try:
        parts = urlsplit(target)
    except ValueError as error:
        raise MalformedRequestError("not a request target") from error
    return (unquote(parts.path) or "/") if parts.scheme in ("http", "https") else ""
