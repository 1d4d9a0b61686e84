"""HTTP/1.1 requests and responses of the pages of control, without I/O (RFC 9110, RFC 9112).

It has no more of HTTP than the pages need: the body of a request is not read, and every response has a length. So
control needs no HTTP library, whose import would take a fifth of a start.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote, urlsplit

MAX_LINE: Final = 4096
"""The most octets of the request line, and of each line of the header."""
MAX_HEAD: Final = 32768
"""The most octets of the request line and the header together."""

_END: Final = b"\r\n\r\n"
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/1\.([0-9])")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")


class MalformedRequestError(Exception):
    """Octets are not a request, or the request is too large. The client gets status 400."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request without its body. `path` is decoded and has no query; names in `headers` are in lower case.

    `keeps_alive` means that the client may send another request on the connection. `has_body` means that a body is
    after the header.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    keeps_alive: bool
    has_body: bool


@dataclass(frozen=True, slots=True)
class Response:
    """A response with its whole body."""

    body: bytes
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    allow: str = ""
    """The methods that the page allows, for the status 405."""

    def encoded(self, *, body: bool, keeps_alive: bool) -> bytes:
        """Returns the octets of the response, without its body if `body` is false.

        If `keeps_alive` is false, the header says that the connection is closed.
        """
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
        ]
        lines += [f"Allow: {self.allow}"] if self.allow else []
        lines += [] if keeps_alive else ["Connection: close"]
        return "\r\n".join(lines).encode("latin-1") + _END + (self.body if body else b"")


def parse(octets: bytes | bytearray) -> tuple[Request, int] | None:
    """Returns the first request in `octets` and the octets that it occupies, without its body.

    Returns None if the request is not complete. Raises MalformedRequestError.
    """
    start = 0
    while octets.startswith(b"\r\n", start):  # RFC 9112 §2.2: empty lines before a request line are ignored
        start += 2
    end = octets.find(_END, start, MAX_HEAD)
    if end < 0:
        last = octets.rfind(b"\r\n", start)
        if len(octets) >= MAX_HEAD or len(octets) - (last + 2 if last >= 0 else start) > MAX_LINE:
            raise MalformedRequestError("the header is too large")
        return None
    first, *rest = bytes(octets[start:end]).split(b"\r\n")
    if max(map(len, (first, *rest))) > MAX_LINE:
        raise MalformedRequestError("a line is too long")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise MalformedRequestError("not a request line of HTTP/1")
    headers = _headers(rest)
    has_body = _has_body(headers)
    method, target, minor = line[1].decode(), line[2].decode(), int(line[3])
    if minor >= 1 and ("host" not in headers or "," in headers["host"]):
        raise MalformedRequestError("exactly one field Host was expected")
    options = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    keeps = "close" not in options if minor >= 1 else "keep-alive" in options
    return Request(method, _path(target), headers, keeps and not has_body, has_body), end + len(_END)


def _headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise MalformedRequestError("not a header field")
        name, value = field[1].decode().lower(), field[2].decode("latin-1").strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _has_body(headers: Mapping[str, str]) -> bool:
    """Returns True if the header announces a body. Raises MalformedRequestError if its length is unclear."""
    length = headers.get("content-length")
    if length is not None and ("transfer-encoding" in headers or not (length.isascii() and length.isdigit())):
        raise MalformedRequestError("the length of the body is unclear")
    return "transfer-encoding" in headers or (length is not None and length.strip("0") != "")


def _path(target: str) -> str:
    """Returns the path of a request target, without the query. Empty for a target without a path, as of CONNECT."""
    if target.startswith("/"):
        return unquote(target.partition("?")[0].partition("#")[0])
    try:
        parts = urlsplit(target)
    except ValueError as error:
        raise MalformedRequestError("not a request target") from error
    return (unquote(parts.path) or "/") if parts.scheme in ("http", "https") else ""
