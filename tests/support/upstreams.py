"""Upstream servers in tests."""

from __future__ import annotations

from svcdns.upstream.server import Server


def finish(server: Server) -> None:
    """Stops a server, and leaves nothing of it under way when the test ends."""
    server.stop()
    for asked in tuple(server._datagrams._open.values()):
        server._datagrams.drop(asked)
