"""The HTTP listeners of control and their pages."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from svcdns.control.http import HttpPages
from svcdns.control.page_sockets import HttpListenError
from tests.support.server import free_port


async def page(request: web.Request) -> web.Response:
    """Answers with the path."""
    return web.Response(text=request.path)


async def get(port: int, path: str) -> tuple[int, str]:
    """Returns HTTP status and text, with status 0 if the connection is refused."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
            return response.status, await response.text()
    except aiohttp.ClientConnectorError:
        return 0, ""


@pytest.fixture
async def pages() -> AsyncIterator[HttpPages]:
    """HTTP pages that are closed after the test."""
    made = HttpPages(dict.fromkeys(("/health", "/ready", "/metrics"), page))
    yield made
    await made.serve({})


async def test_serves_each_page_at_its_address(pages: HttpPages) -> None:
    """Each address serves its own pages; other paths are 404."""
    one, other = free_port(), free_port()
    await pages.serve(
        {("127.0.0.1", one): frozenset({"/health", "/ready"}), ("127.0.0.1", other): frozenset({"/metrics"})}
    )
    assert await get(one, "/health") == (200, "/health")
    assert await get(one, "/ready") == (200, "/ready")
    assert (await get(one, "/metrics"))[0] == 404
    assert (await get(other, "/nothing"))[0] == 404


async def test_port_0_is_a_free_port(pages: HttpPages) -> None:
    """Port 0 opens a free port, which `port` returns."""
    address = ("127.0.0.1", 0)
    await pages.serve({address: frozenset({"/health"})})
    assert await get(pages.port(address), "/health") == (200, "/health")


async def test_a_reload_changes_only_addresses_that_differ(pages: HttpPages) -> None:
    """A reload keeps listeners whose address stays, with new pages, and closes the others."""
    one, other = free_port(), free_port()
    await pages.serve({("127.0.0.1", one): frozenset({"/health"})})
    await pages.serve({("127.0.0.1", one): frozenset({"/ready"}), ("127.0.0.1", other): frozenset({"/health"})})
    assert [(await get(one, path))[0] for path in ("/health", "/ready")] == [404, 200]
    await pages.serve({("127.0.0.1", other): frozenset({"/health"})})
    assert [(await get(port, "/health"))[0] for port in (one, other)] == [0, 200]


async def test_an_address_in_use_changes_nothing(pages: HttpPages) -> None:
    """If one of several new addresses is in use, none is opened, and existing listeners stay."""
    one, other = free_port(), free_port()
    await pages.serve({("127.0.0.1", one): frozenset({"/health"})})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(HttpListenError, match=f"^listen tcp 127.0.0.1:{port}: bind: address already in use$"):
            await pages.serve({("127.0.0.1", other): frozenset({"/ready"}), ("127.0.0.1", port): frozenset({"/ready"})})
    assert (await get(one, "/health"))[0] == 200
    assert (await get(other, "/ready"))[0] == 0


async def test_a_page_can_be_removed(pages: HttpPages) -> None:
    """A page can be removed while others stay, as /ready is at a stop."""
    port = free_port()
    await pages.serve({("127.0.0.1", port): frozenset({"/health", "/ready"})})
    await pages.without("/ready")
    assert [(await get(port, path))[0] for path in ("/health", "/ready")] == [200, 404]
