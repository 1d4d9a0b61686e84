"""`svcdns ready`, with the pages of a control process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from svcdns.cli import commands
from svcdns.control.http import HttpPages
from svcdns.control.http_message import Response


@pytest.mark.parametrize(
    ("path", "response", "code", "text"),
    [
        pytest.param("/ready", Response(b"OK"), 0, "OK", id="ready"),
        pytest.param("/ready", Response(b"kubernetes", 503), 1, "kubernetes", id="without cluster data"),
        pytest.param("/v1/", Response(b"{}"), 1, "the server is stopping", id="during a stop"),
    ],
)
async def test_the_exit_code(
    path: str, response: Response, code: int, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = HttpPages({path: lambda _: response})
    await pages.serve({(f"unix:{tmp_path}/s", 0): frozenset({path})})
    assert await asyncio.to_thread(commands.run, ["ready", "--socket", f"{tmp_path}/s"]) == code
    assert capsys.readouterr().out == text + "\n"
    await pages.serve({})


def test_no_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["ready", "--socket", f"{tmp_path}/s"]) == 2
    assert "there is no such socket" in capsys.readouterr().err
