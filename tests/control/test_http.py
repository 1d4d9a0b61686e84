"""The HTTP listeners of control, and their pages."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from svcdns.control import http
from svcdns.control.http import HttpPages
from svcdns.control.http_message import Request, Response
from svcdns.control.page_sockets import HttpListenError
from tests.support.server import free_port


def page(request: Request) -> Response:
    """Answers with the path."""
    return Response(request.path.encode())


async def get(port: int, path: str) -> tuple[int, str]:
    """Returns HTTP status and text. The status is 0 if the connection is refused."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
            return response.status, await response.text()
    except aiohttp.ClientConnectorError:
        return 0, ""


@pytest.fixture
async def pages() -> AsyncIterator[HttpPages]:
    """Yields HTTP pages, and closes them after the test."""
    made = HttpPages(dict.fromkeys(("/health", "/ready", "/metrics"), page))
    yield made
    await made.serve({})


async def test_serves_each_page_at_its_address(pages: HttpPages) -> None:
    """Other paths are 404."""
    one, other = free_port(), free_port()
    await pages.serve(
        {("127.0.0.1", one): frozenset({"/health", "/ready"}), ("127.0.0.1", other): frozenset({"/metrics"})}
    )
    assert await get(one, "/health") == (200, "/health")
    assert await get(one, "/ready") == (200, "/ready")
    assert (await get(one, "/metrics"))[0] == 404
    assert (await get(other, "/nothing"))[0] == 404


async def test_port_0_is_a_free_port(pages: HttpPages) -> None:
    address = ("127.0.0.1", 0)
    await pages.serve({address: frozenset({"/health"})})
    assert await get(pages.port(address), "/health") == (200, "/health")


async def test_a_reload_changes_only_addresses_that_differ(pages: HttpPages) -> None:
    one, other = free_port(), free_port()
    await pages.serve({("127.0.0.1", one): frozenset({"/health"})})
    await pages.serve({("127.0.0.1", one): frozenset({"/ready"}), ("127.0.0.1", other): frozenset({"/health"})})
    assert [(await get(one, path))[0] for path in ("/health", "/ready")] == [404, 200]
    await pages.serve({("127.0.0.1", other): frozenset({"/health"})})
    assert [(await get(port, "/health"))[0] for port in (one, other)] == [0, 200]


async def test_an_address_in_use_changes_nothing(pages: HttpPages) -> None:
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
    """When the server stops, /ready is removed while other pages stay."""
    port = free_port()
    await pages.serve({("127.0.0.1", port): frozenset({"/health", "/ready"})})
    await pages.without("/ready")
    assert [(await get(port, path))[0] for path in ("/health", "/ready")] == [200, 404]


async def exchange(port: int, octets: bytes) -> bytes:
    """Sends octets. Returns what the server sends until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(octets)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        return b"reset"
    finally:
        writer.close()


@pytest.fixture
async def health(pages: HttpPages) -> int:
    """Opens a listener with /health, and returns its port."""
    address = ("127.0.0.1", 0)
    await pages.serve({address: frozenset({"/health"})})
    return pages.port(address)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
@pytest.mark.parametrize("path", ["/health", "/nothing"])
async def test_other_methods_are_refused(method: str, path: str, health: int) -> None:
    head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    reply = await exchange(health, head)
    assert reply.split(b" ", 2)[1] == b"405"
    assert b"\r\nAllow: GET, HEAD\r\n" in reply


@pytest.mark.parametrize(
    ("path", "status"), [("/health", b"200"), ("/nothing", b"404"), ("/health/", b"404"), ("/", b"404")]
)
async def test_head_is_get_without_a_body(path: str, status: bytes, health: int) -> None:
    head = f" {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
    replies = [await exchange(health, method + head) for method in (b"GET", b"HEAD")]
    assert [reply.split(b" ", 2)[1] for reply in replies] == [status] * 2
    assert replies[1].endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET /health?" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", id="a long line"),
        pytest.param(b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000 + b"\r\n\r\n", id="a long field"),
        pytest.param(b"GET /health HTTP/1.1\r\n" + b"X: a\r\n" * 9000 + b"\r\n", id="many fields"),
        pytest.param(b"\x16\x03\x01" + bytes(40) + b"\r\n\r\n", id="TLS"),
        pytest.param(
            b"GET /health HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", id="two lengths"
        ),
    ],
)
async def test_malformed_and_large_requests_are_refused(
    head: bytes, health: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The status is 400. No line is logged, and the connection is closed."""
    assert (await exchange(health, head)).split(b" ", 2)[1] == b"400"
    assert await get(health, "/health") == (200, "/health")
    assert caplog.text == ""


async def test_a_page_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """The exception is logged, and the client gets 500."""

    def broken(_: Request) -> Response:
        raise ValueError("on purpose")

    made, address = HttpPages({"/health": broken}), ("127.0.0.1", 0)
    await made.serve({address: frozenset({"/health"})})
    assert (await get(made.port(address), "/health"))[0] == 500
    assert "ValueError: on purpose" in caplog.text
    await made.serve({})


async def test_a_body_is_not_kept(health: int) -> None:
    """A GET with an endless body is answered, and its connection is closed soon."""
    head = b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n"
    assert (await exchange(health, head + bytes(100_000))).split(b" ", 2)[1] == b"200"


async def test_a_request_has_a_time_limit(pages: HttpPages, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends its header slowly, or sends nothing, loses its connection. Later requests have the same
    limit.
    """
    monkeypatch.setattr(http, "REQUEST_TIMEOUT", 0.05)
    address = ("127.0.0.1", 0)
    await pages.serve({address: frozenset({"/health"})})
    port = pages.port(address)
    assert await exchange(port, b"") == b""
    assert await exchange(port, b"GET /health HT") == b""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await reader.readuntil(b"/health")).startswith(b"HTTP/1.1 200")
    writer.write(b"GET /h")
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()


async def test_an_idle_connection_has_a_time_limit(pages: HttpPages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IDLE_TIMEOUT", 0.05)
    address = ("127.0.0.1", 0)
    await pages.serve({address: frozenset({"/health"})})
    reply = await exchange(pages.port(address), b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 200")


async def test_many_connections(health: int) -> None:
    """The number of connections is bounded. A new client is served, and the client that was idle longest loses its
    connection.
    """
    streams = [await asyncio.open_connection("127.0.0.1", health) for _ in range(http.MAX_CONNECTIONS + 20)]
    assert await get(health, "/health") == (200, "/health")
    ended = [asyncio.ensure_future(reader.read(1)) for reader, _ in streams]
    await asyncio.wait_for(asyncio.gather(*ended[:20]), 30)
    waiting = [one for one in ended if not one.done()]
    assert len(waiting) <= http.MAX_CONNECTIONS
    for one in waiting:
        one.cancel()
    await asyncio.gather(*ended, return_exceptions=True)
    for _, writer in streams:
        writer.close()


async def test_requests_that_are_sent_together(health: int) -> None:
    """Requests are answered in order, until one says that it is the last."""
    more = (
        b"\r\nGET /nothing HTTP/1.1\r\nHost: a\r\n\r\n" + b"HEAD /health HTTP/1.0\r\n\r\n" + b"GET /health HTTP/1.1\r\n"
    )
    reply = await exchange(health, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" + more)
    assert [line.split(b"\r\n", 1)[0] for line in reply.split(b"HTTP/1.1 ")[1:]] == [
        b"200 OK",
        b"404 Not Found",
        b"200 OK",
    ]
    assert reply.endswith(b"\r\nConnection: close\r\n\r\n")


async def test_a_client_that_does_not_read() -> None:
    """The client's further requests wait, so that memory is bounded."""
    made, calls = HttpPages({"/metrics": lambda _: calls.append(1) or Response(bytes(1 << 20))}), list[int]()
    address = ("127.0.0.1", 0)
    await made.serve({address: frozenset({"/metrics"})})
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port(address), limit=1 << 10)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 30)
    async with asyncio.timeout(10):
        await reader.readexactly(1)
        assert 0 < len(calls) < 30
        rest = await reader.readexactly(29 << 20)
        assert len(rest) == 29 << 20
    writer.close()
    await made.serve({})
    assert len(calls) == 30


async def test_a_closed_listener_ends_its_connections(pages: HttpPages) -> None:
    address = ("127.0.0.1", 0)
    await pages.serve({address: frozenset({"/health"})})
    reader, writer = await asyncio.open_connection("127.0.0.1", pages.port(address))
    writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b"/health")
    await pages.serve({})
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()


async def test_a_page_that_takes_time(pages: HttpPages) -> None:
    """Other connections are served meanwhile. Further requests on the connection are answered after it, in order."""
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        begun.set()
        await may_end.wait()
        return Response(f"slow {request.query['n']}".encode())

    pages._pages = {"/slow/": slow, "/health": page}
    address = ("127.0.0.1", free_port())
    await pages.serve({address: frozenset(pages._pages)})
    reader, writer = await asyncio.open_connection(*address)
    writer.write(
        b"GET /slow/a?n=1 HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    async with asyncio.timeout(10):
        await begun.wait()
        assert await get(address[1], "/health") == (200, "/health")
        may_end.set()
        received = await reader.read()
    writer.close()
    assert received.index(b"slow 1") < received.index(b"/health")


async def test_a_client_that_leaves_ends_its_page(pages: HttpPages) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> Response:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    pages._pages = {"/slow/": slow}
    address = ("127.0.0.1", free_port())
    await pages.serve({address: frozenset({"/slow/"})})
    _, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(10):
        await begun.wait()
        writer.transport.abort()
        await ended.wait()


async def test_a_slow_page_that_fails(pages: HttpPages, caplog: pytest.LogCaptureFixture) -> None:
    async def fails(_: Request) -> Response:
        raise KeyError("x")

    pages._pages = {"/slow/": fails}
    address = ("127.0.0.1", free_port())
    await pages.serve({address: frozenset({"/slow/"})})
    assert (await get(address[1], "/slow/b"))[0] == 500
    assert "a page cannot be made page=/slow/b" in caplog.text
    assert (await get(address[1], "/slower"))[0] == 404
