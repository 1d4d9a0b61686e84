"""The command `svcdns cache`, as a user runs it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from svcdns.cli import commands
from svcdns.control.cache_pages import CachedReply, CacheFlush, CacheList
from svcdns.control.http import HttpPages
from svcdns.control.http_message import Request, Response

REPLIES = [
    CachedReply("table", "dns://:53", "a.test.", "A", "NOERROR", 5, None, None, 2, ["worker 0", "worker 1"]),
    CachedReply("cache", "dns://:53", "b.test.", "AAAA", "NXDOMAIN", 30, 12.4, 3, 1, ["worker 0"]),
    CachedReply("cache", "dns://:53", "c.test.", "A", "NOERROR", 0, -2.0, None, 1, ["worker 0"]),
]


class Server:
    """A server with three stored replies. It notes the requests."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.requests: list[tuple[str, str, dict[str, str]]] = []

    def page(self, request: Request) -> Response:
        self.requests.append((request.method, request.path, dict(request.query)))
        if request.method == "POST":
            return Response(msgspec.json.encode(CacheFlush(1, 1, {"table": 1, "cache": 0}, {"worker 0": 1})))
        rows = [one for one in REPLIES if request.query.get("name", one.name) == one.name]
        return Response(msgspec.json.encode(CacheList(1, sum(one.count for one in rows), rows)))

    def run(self, *arguments: str) -> int:
        """Runs the command while the server answers, and returns the exit code."""

        async def both() -> int:
            pages = HttpPages({"/v1/": self.page})
            await pages.serve({(f"unix:{self.path}", 0): frozenset({"/v1/"})})
            try:
                return await asyncio.to_thread(commands.run, ["cache", *arguments, "--socket", self.path])
            finally:
                await pages.serve({})

        return asyncio.run(both())


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(f"{tmp_path}/s")


def test_list(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert server.run("list", "--zone", "TEST", "--limit", "7") == 0
    assert server.requests == [("GET", "/v1/cache", {"zone": "test.", "limit": "7"})]
    assert capsys.readouterr().out.splitlines() == [
        "NAME     TYPE  RCODE     STORE  TTL  EXPIRES      HITS  COUNT  SERVER",
        "a.test.  A     NOERROR   table  5    at a change  -     2      dns://:53",
        "b.test.  AAAA  NXDOMAIN  cache  30   12 s         3     1      dns://:53",
        "c.test.  A     NOERROR   cache  0    stale        -     1      dns://:53",
        "4 stored replies",
    ]


def test_lookup(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 1 if nothing is found."""
    assert server.run("lookup", "B.test", "aaaa", "--output", "json") == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["replies"]] == ["b.test."]
    assert server.run("lookup", "no.test") == 1
    assert server.requests[0][2] == {"name": "b.test.", "type": "AAAA"}


def test_flush(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert server.run("flush", "a.test") == 0
    assert capsys.readouterr().out == "flushed 1 reply in 1 worker: 1 from table, 0 from cache\n"
    assert server.run("flush", "--zone", ".", "--output", "json") == 0
    assert json.loads(capsys.readouterr().out)["flushed"] == 1
    assert server.requests == [
        ("POST", "/v1/cache/flush", {"name": "a.test."}),
        ("POST", "/v1/cache/flush", {"zone": "."}),
    ]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["flush"], "a NAME or --zone was expected, and not both"),
        (["flush", "a.test", "--zone", "."], "a NAME or --zone was expected, and not both"),
        (["lookup", "a.test", "X"], "'X' is no record type"),
        (["lst"], "Did you mean 'list'?"),
        (["list", "--limit", "0"], "--limit"),
        (["list", "--socket", "/nonexistent/s"], "there is no such socket"),
    ],
)
def test_what_cannot_run(arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["cache", *arguments]) == 2
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(("command", "title"), [("list", "CacheList"), ("flush", "CacheFlush")])
def test_schemas(command: str, title: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["cache", command, "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$ref"].endswith(title)
