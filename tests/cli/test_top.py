"""The command `svcdns top`, as a user runs it."""

from __future__ import annotations

import asyncio
import json
import os
import termios
from pathlib import Path

import msgspec
import pytest

from svcdns.cli import commands
from svcdns.cli.top import keys
from svcdns.control.http import HttpPages
from svcdns.control.http_message import Request, Response
from tests.support.screen import Screen
from tests.support.server_states import TRAFFIC, status


class Server:
    """A server that gets a hundred queries before each request for its state."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.pages = HttpPages({"/v1/": self.page})
        self.total = 0

    def page(self, request: Request) -> Response:
        if request.path == "/v1/traffic":
            return Response(msgspec.json.encode(TRAFFIC))
        self.total += 100
        return Response(msgspec.json.encode(status(self.total)))

    async def start(self) -> None:
        await self.pages.serve({(f"unix:{self.path}", 0): frozenset({"/v1/"})})

    async def stop(self) -> None:
        await self.pages.serve({})


@pytest.mark.slow
async def test_keys_in_a_terminal(tmp_path: Path) -> None:
    """The server stops meanwhile, and starts again. At the end, the terminal is as it was."""
    server = Server(f"{tmp_path}/s")
    await server.start()
    with Screen(["top", "--socket", server.path, "--every", "0.5"], NO_COLOR="1") as terminal:
        await terminal.until("NOERROR")
        assert not terminal.mode()[3] & (termios.ECHO | termios.ICANON)
        assert len(terminal.frame().splitlines()) == 24
        terminal.press("2")
        await terminal.until("CLIENT")
        terminal.press("\x1b[C")
        await terminal.until("[namespaces]")
        terminal.press("/shop\r")
        await terminal.until("filter: shop", "80.0 %")
        assert "(unknown)" not in terminal.frame()
        terminal.resize(100, 30)
        await terminal.until("filter: shop", lines=30)
        await server.stop()
        await terminal.until("no contact for", "there is no such socket")
        await server.start()
        await terminal.until("NOERROR", without="no contact")
        terminal.press("?")
        await terminal.until("keys and lists")
        terminal.press("q")
        assert await terminal.ended() == 0
        assert terminal.mode() == terminal.mode_before
        assert terminal.output.endswith("\x1b[?1049l")
        assert "\x1b[31m" not in terminal.output
    await server.stop()


async def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(f"{tmp_path}/s")
    await server.start()
    arguments = ["top", "--socket", server.path, "--every", "0.5", "--output", "json"]
    assert await asyncio.to_thread(commands.run, arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["queries"] == pytest.approx(100 / found["seconds"])
    assert found["traffic"]["clients"][1]["pod"] == "web-1"
    await server.stop()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "the live view needs a terminal; --once prints one report"),
        (["--once", "--socket", "/nonexistent/s"], "there is no such socket; is the plugin 'admin'"),
        (["--every", "0.1"], "--every"),
    ],
)
def test_what_cannot_run(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "TERM", "dumb")
    assert commands.run(["top", *arguments]) == 2
    assert error in capsys.readouterr().err


def test_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["top", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$ref"].endswith("TopReport")


def test_keys_of_a_terminal() -> None:
    assert keys("a\x1b[A\x1bOB\x1b[Z\x1b[5~\x1b[6~\x1b[1~\x7f\r\t ü") == [
        "a", "up", "down", "backtab", "pageup", "pagedown", "home", "backspace", "\r", "\t", " ", "ü",
    ]  # fmt: skip
    assert keys("\x1b") == ["escape"]
    assert keys("\x1b[24~") == [""]
