"""The listening sockets of HTTP pages, before their HTTP library is imported."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from svcdns.control import page_sockets
from svcdns.control.http import HttpPages
from svcdns.control.http_message import Response
from svcdns.control.page_sockets import HttpListenError, close_all, listen, listen_all
from tests.support.server import free_port


async def test_clients_can_connect_before_a_page_is_served() -> None:
    sockets = await listen_all([("127.0.0.1", 0), ("127.0.0.1", 0)])
    [[sock]] = sockets.values()
    address = sock.getsockname()
    socket.create_connection(address, timeout=30).close()
    close_all(sockets)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=30)


async def test_all_addresses_of_the_machine_have_one_port() -> None:
    sockets = await listen(("", 0))
    try:
        assert {sock.getsockname()[0] for sock in sockets} <= {"0.0.0.0", "::"}
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
    finally:
        close_all({("", 0): sockets})


async def test_a_taken_port_closes_the_others() -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HttpListenError, match=f"^listen tcp 127.0.0.1:{port}: bind: address already in use$"):
            await listen_all([("127.0.0.1", free), ("127.0.0.1", port)])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", free), timeout=30)


async def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(HttpListenError, match=r"^listen tcp no-such-host.invalid:80: bind: \S"):
        await listen(("no-such-host.invalid", 80))


async def test_pages_use_sockets_that_listen_already() -> None:
    sockets = await listen_all([("127.0.0.1", 0)])
    [[sock]] = sockets.values()
    port = sock.getsockname()[1]
    pages = HttpPages({})
    await pages.serve({("127.0.0.1", 0): frozenset()}, sockets)
    try:
        assert pages.port(("127.0.0.1", 0)) == port
        assert not sockets
    finally:
        await pages.serve({})


def test_the_http_library_is_not_imported() -> None:
    code = f"import sys, {page_sockets.__name__}; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_an_optional_address_that_cannot_be_bound(caplog: pytest.LogCaptureFixture) -> None:
    """The error is logged, and the server goes on without the page. A reload tries again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
        optional = {address: "Failed to start metrics handler"}
        sockets = await listen_all([address], optional)
        assert sockets == {address: []}
        line = f"Failed to start metrics handler: listen tcp 127.0.0.1:{address[1]}: bind: address already in use"
        pages = HttpPages({"/metrics": lambda _: Response(b"")})
        await pages.serve({address: frozenset({"/metrics"})}, sockets, optional)
        assert caplog.messages == [line]
        await pages.serve({address: frozenset({"/metrics"})}, None, optional)
        assert caplog.messages == [line] * 2
        await pages.without("/ready")
        assert caplog.messages == [line] * 2
        assert not pages.listens(address)
    await pages.serve({address: frozenset({"/metrics"})}, None, optional)
    assert pages.listens(address)
    await pages.serve({})


async def test_a_port_that_another_process_shares(caplog: pytest.LogCaptureFixture) -> None:
    """A successor does not warn, because it shares the port with its predecessor."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = other.getsockname()
        close_all({address: await listen(address)})
        assert not caplog.records
        close_all(await listen_all([address]))
    [record] = caplog.records
    assert record.getMessage() == (
        f'another socket listens on the same port: each gets a part of the requests listen="tcp 127.0.0.1:{address[1]}"'
    )
    caplog.clear()
    close_all(await listen_all([address]))
    assert not caplog.records


ANOTHER = 'another socket listens on the same port: each gets a part of the requests listen="tcp {}:{}"'
OWN = (
    "pages have the same port and different addresses: a request reaches only one of them "
    'listen="tcp {}:{}" other="tcp 127.0.0.1:{}"'
)


async def test_a_reload_warns_about_a_shared_port_as_a_start_does(caplog: pytest.LogCaptureFixture) -> None:
    pages = HttpPages({"/health": lambda _: Response(b""), "/ready": lambda _: Response(b"")})
    health, ready = frozenset({"/health"}), frozenset({"/ready"})
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = other.getsockname()
        await pages.serve({address: health}, warns=True)
    assert caplog.messages == [ANOTHER.format(*address)]
    caplog.clear()
    port = address[1]
    await pages.serve({address: health, ("0.0.0.0", port): ready}, warns=True)
    assert caplog.messages == [OWN.format("0.0.0.0", port, port)]
    caplog.clear()
    await pages.serve({address: health | ready}, warns=True)
    await pages.serve({("0.0.0.0", port): health}, warns=True)
    assert not caplog.records, "the process that listens is this one, and it closes the socket"
    await pages.serve({})


async def test_a_start_warns_about_its_own_pages(caplog: pytest.LogCaptureFixture) -> None:
    free = free_port()
    close_all(await listen_all([("127.0.0.1", free), ("0.0.0.0", free), ("127.0.0.1", free)]))
    assert caplog.messages == [OWN.format("0.0.0.0", free, free)]
