"""Requests and responses of the pages of control."""

from __future__ import annotations

import re

import pytest

from svcdns.control import http_message
from svcdns.control.http_message import MalformedRequestError, Response, parse


def head(first: str, *fields: str) -> bytes:
    return "\r\n".join((first, *fields, "", "")).encode("latin-1")


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/health", "/health"),
        ("/health?verbose=1", "/health"),
        ("/he%61lth", "/health"),
        ("http://host:8080/ready?x", "/ready"),
        ("http://host", "/"),
        ("*", ""),
        ("host:80", ""),
    ],
)
def test_targets(target: str, path: str) -> None:
    """The path is decoded, and has neither host nor query (RFC 9112 §3.2)."""
    found = parse(head(f"GET {target} HTTP/1.1", "Host: a"))
    assert found is not None
    assert found[0].path == path


def test_the_next_request_is_left_in_the_buffer() -> None:
    """A request may begin with empty lines, which are ignored."""
    one = b"\r\n\r\n" + head("GET /a HTTP/1.1", "Host: a", "X: 1", "x:2", "Y:\t3 ")
    found = parse(one + b"GET /b")
    assert found is not None
    request, octets = found
    assert octets == len(one)
    assert request.headers == {"host": "a", "x": "1, 2", "y": "3"}
    assert parse(b"GET /b") is None
    assert parse(b"") is None


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [("1.1", "", True), ("1.1", "x, Close", False), ("1.0", "", False), ("1.0", "keep-alive", False)],
)
def test_connections_that_are_kept(version: str, connection: str, *, keeps: bool) -> None:
    """The HTTP version and the field Connection determine whether the connection stays open (RFC 9112 §9.3)."""
    found = parse(head(f"GET / HTTP/{version}", "Host: a", f"Connection: {connection}"))
    assert found is not None
    assert found[0].keeps_alive is keeps


@pytest.mark.parametrize(
    "field", ["Content-Length: 1", "Transfer-Encoding: chunked", "Content-Length: 0\r\nTransfer-Encoding: chunked"]
)
def test_a_body_ends_the_connection(field: str) -> None:
    """The body is not read. The connection ends, so that no part of the body is read as a request."""
    found = parse(head("GET / HTTP/1.1", "Host: a", field))
    assert found is not None
    assert found[0].has_body
    assert not found[0].keeps_alive


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(head("GET /  HTTP/1.1", "Host: a"), id="two spaces"),
        pytest.param(head("GET / HTTP/2.0", "Host: a"), id="another version"),
        pytest.param(head("GET / HTTP/1.1"), id="no host"),
        pytest.param(head("GET / HTTP/1.1", "Host: a", "Host: b"), id="two hosts"),
        pytest.param(head("GET / HTTP/1.1", "Host : a"), id="a space before the colon"),
        pytest.param(head("GET / HTTP/1.1", "Host: a\0"), id="NUL"),
        pytest.param(head("GET / HTTP/1.1", "Host: a", "Content-Length: +1"), id="a sign"),
        pytest.param(head("GET / HTTP/1.1", "Host: a", "Content-Length: 1", "Content-Length: 2"), id="two lengths"),
        pytest.param(head("GET http://[ HTTP/1.1", "Host: a"), id="half an address"),
        pytest.param(b"GET /" + b"a" * http_message.MAX_HEAD, id="a long line"),
        pytest.param(b"\r\n" * http_message.MAX_HEAD, id="empty lines"),
    ],
)
def test_malformed_requests(octets: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        parse(octets)


def test_a_response() -> None:
    """A response has a length and a date. For HEAD, the length is that of the body for GET."""
    response = Response(b"body", 405, "text/html", "GET")
    lines = response.encoded(body=True, keeps_alive=True).decode().split("\r\n")
    date = next(line for line in lines if line.startswith("Date: "))
    assert re.fullmatch(r"Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", date)
    lines.remove(date)
    assert lines == [
        "HTTP/1.1 405 Method Not Allowed", "Content-Type: text/html", "Content-Length: 4", "Allow: GET", "", "body",
    ]  # fmt: skip
    head_only = response.encoded(body=False, keeps_alive=False)
    assert b"\r\nContent-Length: 4\r\n" in head_only
    assert head_only.endswith(b"\r\nConnection: close\r\n\r\n")
