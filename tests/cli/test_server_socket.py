"""Requests of tools over the Unix socket of a server."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from svcdns.cli.errors import CannotRun
from svcdns.cli.server_socket import ask
from svcdns.control.http import HttpPages
from svcdns.control.http_message import Request, Response

PAGES = {
    "/v1/echo": b'["GET"]',
    "/v1/broken": b"[",
    "/v1/wrong": b'{"error": "a name was expected"}',
}


def page(request: Request) -> Response:
    return Response(PAGES[request.path], 400 if "wrong" in request.path else 200)


async def test_documents_and_errors(tmp_path: Path) -> None:
    path = f"{tmp_path}/s"
    pages = HttpPages({"/v1/": page})
    await pages.serve({(f"unix:{path}", 0): frozenset({"/v1/"})})
    assert await asyncio.to_thread(ask, path, "echo", {"a": "1"}, list[str]) == ["GET"]
    with pytest.raises(CannotRun, match="a name was expected"):
        await asyncio.to_thread(ask, path, "wrong", {}, list[str], "POST")
    with pytest.raises(CannotRun, match="the reply cannot be read"):
        await asyncio.to_thread(ask, path, "broken", {}, list[str])
    await pages.serve({})


def test_sockets_without_a_server(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="there is no such socket; is the plugin 'admin'"):
        ask(f"{tmp_path}/no", "status", {}, dict)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{tmp_path}/left")
    with pytest.raises(CannotRun, match="no server listens"):
        ask(f"{tmp_path}/left", "status", {}, dict)
