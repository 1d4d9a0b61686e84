"""The Unix socket for tools: its file, and requests over it."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import aiohttp
import pytest

from svcdns.control.http import HttpPages
from svcdns.control.http_message import Request, Response
from svcdns.control.page_sockets import HttpListenError
from svcdns.control.unix_sockets import UnixListener, path_of


def test_the_file_of_a_socket(tmp_path: Path) -> None:
    """A later socket replaces the file of an earlier one, which then leaves the file alone."""
    path = tmp_path / "created" / "s"
    first = UnixListener(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = UnixListener(path)
    first.close()
    assert [one.name for one in path.parent.iterdir()] == ["s"]
    second.close()
    second.close()
    assert list(path.parent.iterdir()) == []


def test_another_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("x")
    with pytest.raises(FileExistsError):
        UnixListener(path)
    assert path.read_text() == "x"


def test_hosts_of_addresses() -> None:
    assert path_of("unix:/run/s") == Path("/run/s")
    assert path_of("localhost") is None


async def test_requests(tmp_path: Path) -> None:
    """POST is accepted, and the file is removed when the page ends."""

    def page(request: Request) -> Response:
        return Response(f"{request.method} {request.path} {request.query}".encode())

    pages, address = HttpPages({"/v1/": page}), (f"unix:{tmp_path}/s", 0)
    await pages.serve({address: frozenset({"/v1/"})})
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(f"{tmp_path}/s")) as session:
        async with session.post("http://localhost/v1/x?a=1") as response:
            assert await response.text() == "POST /v1/x {'a': '1'}"
        async with session.delete("http://localhost/v1/x") as response:
            assert response.status == 405
    await pages.serve({})
    await asyncio.sleep(0)
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_does_not_exist(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    address = (f"unix:{tmp_path}/no/no/s", 0)
    pages = HttpPages({"/v1/": lambda _: Response(b"")})
    with pytest.raises(HttpListenError, match=f"listen unix {tmp_path}/no/no/s: bind: no such file or directory"):
        await pages.serve({address: frozenset({"/v1/"})})
    await pages.serve({address: frozenset({"/v1/"})}, None, {address: "no tool can connect"})
    assert 'user="no tool can connect" error="listen unix' in caplog.text
    await pages.serve({})
