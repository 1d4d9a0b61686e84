"""The pages of *status*: addresses, Host headers and errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from svcdns.control.explanations import ExplanationError
from svcdns.control.http_message import Request, Response
from svcdns.control.status import Status
from svcdns.control.status_pages import StatusPages, is_loopback
from svcdns.control.traffic import TrafficReport
from tests.control.test_status_html import EMPTY, REPORT


class Document:
    """The state of a server."""

    async def status(self) -> Status:
        return EMPTY


async def explain(query: Mapping[str, str]) -> str:
    if query.get("name") == "bad":
        raise ExplanationError("no such name")
    return f"explained {query.get('name')}"


async def report(_count: int) -> TrafficReport | None:
    return REPORT


async def page(path: str, host: str = "localhost:8053", listener: str = "localhost", **query: str) -> Response:
    request = Request("GET", path, {"host": host}, keeps_alive=True, has_body=False, query=query, listener=listener)
    return await StatusPages(cast("Any", Document()), explain, report).page(request)


@pytest.mark.parametrize("host", ["localhost:8053", "127.0.0.1:1", "[::1]:8053", "localhost", "LOCALHOST", "[::1]"])
async def test_the_page_on_loopback(host: str) -> None:
    response = await page("/status/", host)
    assert response.status == 200
    assert b"<form" in response.body
    assert "Content-Security-Policy" in dict(response.headers)


@pytest.mark.parametrize("host", ["evil.test", "evil.test:8053", "192.0.2.1", "", "localhost.evil.test"])
async def test_another_name_for_loopback_is_refused(host: str) -> None:
    """A web page elsewhere could give its own name the address 127.0.0.1."""
    for path in ("/status/", "/status/live", "/status/explanation"):
        assert (await page(path, host, name="a")).status == 403


async def test_a_public_page() -> None:
    response = await page("/status/", "dns.example", "", name="a")
    assert response.status == 200
    assert b"<form" not in response.body
    assert b"explained" not in response.body
    for path in ("/status/", "/status/live"):
        shown = (await page(path, "dns.example", "")).body
        assert b"shop" not in shown
        assert b"10.0.0.9" not in shown
    assert (await page("/status/explanation", "dns.example", "", name="a")).status == 404


async def test_explanations() -> None:
    assert (await page("/status/explanation", name="a")).body == b"explained a\n"
    failed = await page("/status/explanation", name="bad")
    assert (failed.status, failed.body) == (400, b"no such name\n")
    assert b"explained a" in (await page("/status/", name="a")).body


@pytest.mark.parametrize(("path", "status"), [("/status", 308), ("/status/live", 200), ("/status/other", 404)])
async def test_paths(path: str, status: int) -> None:
    assert (await page(path)).status == status


@pytest.mark.parametrize(("host", "expected"), [("localhost", True), ("127.9.9.9", True), ("::1", True), ("", False)])
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) == expected
