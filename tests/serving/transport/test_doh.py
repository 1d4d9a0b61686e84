"""Queries in HTTP requests, and the header fields of responses."""

from __future__ import annotations

import base64

import dns.message
import pytest

from svcdns.serving.transport import doh

QUERY = dns.message.make_query("a.b.", "A", id=0).to_wire()
IN_URL = base64.urlsafe_b64encode(QUERY).rstrip(b"=")


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        pytest.param(b"POST", b"/dns-query", 0, id="post"),
        pytest.param(b"GET", b"/dns-query?dns=x", 0, id="get"),
        pytest.param(b"GET", b"/dns%2Dquery", 0, id="escaped"),
        pytest.param(b"PUT", b"/dns-query", 400, id="method"),
        pytest.param(b"PUT", b"/", 404, id="path before method"),
        pytest.param(b"GET", b"/dns-query/", 404, id="slash"),
    ],
)
def test_refusal(method: bytes, target: bytes, status: int) -> None:
    assert doh.refusal(method, target) == status


@pytest.mark.parametrize(
    ("target", "found"),
    [
        pytest.param(b"/dns-query?dns=" + IN_URL, QUERY, id="only parameter"),
        pytest.param(b"/dns-query?a=b&dns=" + IN_URL, QUERY, id="another parameter"),
        pytest.param(b"/dns-query?%64ns=" + IN_URL.replace(b"A", b"%41"), QUERY, id="escaped"),
        pytest.param(b"/dns-query?dns=AA&dns=AA", None, id="twice"),
        pytest.param(b"/dns-query", None, id="missing"),
        pytest.param(b"/dns-query?dns=A", None, id="length"),
        pytest.param(b"/dns-query?dns=AA==", None, id="padding"),
        pytest.param(b"/dns-query?dns=A+/A", None, id="alphabet"),
        pytest.param(b"/dns-query?dns=" + b"A" * 87_382, None, id="too long"),
    ],
)
def test_the_parameter(target: bytes, found: bytes | None) -> None:
    assert doh.packet_of(target) == found


@pytest.mark.parametrize(
    ("text", "age"),
    [
        pytest.param("rcode NOERROR\n;QUESTION\na.b. IN A\n;ANSWER\na.b. 30 IN A 10.0.0.1\na.b. 7 IN A 10.0.0.2", 7, id="lowest"),
        pytest.param("rcode NOERROR\n;QUESTION\na.b. IN A\n;ANSWER\na.b. 9000 IN A 10.0.0.1", 3600, id="an hour at most"),
        pytest.param("rcode NXDOMAIN\n;QUESTION\na.b. IN A\n;AUTHORITY\nb. 30 IN SOA b. b. 1 1 1 1 5", 30, id="TTL of the SOA record"),
        pytest.param("rcode NXDOMAIN\n;QUESTION\na.b. IN A\n;ANSWER\na.b. 30 IN CNAME c.", 5, id="NXDOMAIN with an answer"),
        pytest.param("rcode SERVFAIL\n;QUESTION\na.b. IN A", 5, id="error"),
        pytest.param("rcode NOERROR\n;QUESTION\na.b. IN A", 5, id="no record"),
        pytest.param("rcode NOERROR\n;QUESTION\na.b. IN A\n;AUTHORITY\nb. 30 IN NS c.", 5, id="delegation"),
    ],
)  # fmt: skip
def test_age(text: str, age: int) -> None:
    assert doh.age(dns.message.from_text("id 0\nopcode QUERY\n" + text).to_wire()) == age


def test_the_date_is_in_every_response() -> None:
    assert {name for name, _ in doh.fields(200, b"x", 1)} >= {b"date", b"cache-control", b"content-length"}
    assert b"cache-control" not in dict(doh.fields(400, b"x", 1))
