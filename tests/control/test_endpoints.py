"""The page /ready. Tests in tests/end_to_end query the pages of a real server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from svcdns.cli.server_socket import missing
from svcdns.control.endpoints import TOOLS, Pages
from svcdns.control.http_message import Request, Response
from svcdns.plugin_api.settings import HttpPage
from svcdns.process.shared_memory import State
from svcdns.telemetry.counters import Counters


class Workers:
    """Workers whose states are set by the test."""

    def __init__(self, *states: State) -> None:
        self.now = list(states)

    def states(self) -> list[State]:
        return self.now


def pages_of(workers: Workers, *, watching: bool) -> Pages:
    return Pages(
        cast("Any", workers),
        Counters(),
        [memoryview(bytearray(1 << 16))],
        0,
        lambda: watching,
        lambda: False,
        lambda _: Response(b""),
    )


def ready(workers: Workers, *, watching: bool) -> tuple[int, str]:
    """Returns status and text of the page /ready."""
    response = pages_of(workers, watching=watching)._ready(cast("Request", None))
    return response.status, response.body.decode()


@pytest.mark.parametrize("watching", [True, False], ids=["with a cluster", "without"])
def test_ready_is_the_present_state(*, watching: bool) -> None:
    """/ready fails while a worker starts, even if it succeeded before (docs/plugins/ready.md)."""
    workers = Workers(State.SERVING, State.SERVING)
    assert ready(workers, watching=watching) == (200, "OK")
    workers.now[1] = State.STARTING
    assert ready(workers, watching=watching) == (503, "kubernetes" if watching else "worker")
    workers.now[1] = State.SERVING
    assert ready(workers, watching=watching) == (200, "OK")


async def test_the_socket_for_tools_has_the_page_of_ready(tmp_path: Path) -> None:
    """During a stop, the socket serves the other pages only."""
    path = f"{tmp_path}/s"
    pages = pages_of(Workers(State.SERVING), watching=False)
    setup = SimpleNamespace(pages=[HttpPage(TOOLS, (f"unix:{path}", 0))], optional_pages={})
    await pages.serve(cast("Any", setup))
    assert await asyncio.to_thread(missing, path) == ""
    await pages.unready()
    assert await asyncio.to_thread(missing, path) == "the server is stopping"
    await pages.close()
