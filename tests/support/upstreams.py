"""Upstream servers in tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from svcdns.upstream.server import Server


def finish(server: Server) -> None:
    """Stops a server, and cancels its open queries."""
    server.stop()
    for used in tuple(server._sockets._in_use):
        server._sockets.cancel(used)


@contextmanager
def all_finished(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Finishes every server that *forward* makes in this context."""
    made: list[Server] = []

    class Recorded(Server):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr("svcdns.plugins.forward.group_builder.Server", Recorded)
    yield
    for server in made:
        finish(server)
