"""The pages below /debug/pprof/."""

from __future__ import annotations

import gzip
from typing import Any, cast

import msgspec
import pytest

from svcdns.control.http_message import Request, Response
from svcdns.control.profile_pages import ProfilePages
from svcdns.control.workers import CallError
from svcdns.telemetry.profiles import Place, Sample
from svcdns.wire.protobuf import decode

SAMPLE = Sample((Place("answer", "/app/worker.py", 4),), 2, 20_000_000)


class Workers:
    """One worker. Its profiles have one sample."""

    def __init__(self, error: str = "") -> None:
        self.error = error
        self.called: list[str] = []

    def callable_workers(self) -> dict[str, int]:
        return {"worker 0": 5}

    async def call(self, region: int, function: str, argument: bytes, timeout: float) -> bytes:
        self.called.append(f"{region} {function} {msgspec.msgpack.decode(argument) if argument else ''}".strip())
        assert timeout > 5
        if self.error:
            raise CallError(self.error)
        return b"task of the worker" if function == "stacks" else msgspec.msgpack.encode([SAMPLE])


async def page(path: str, query: dict[str, str] | None = None, workers: Workers | None = None) -> Response:
    request = Request("GET", path, {}, keeps_alive=True, has_body=False, query=query or {})
    return await ProfilePages(cast("Any", workers or Workers())).page(request)


@pytest.mark.parametrize("path", ["/debug/pprof", "/debug/pprof/"])
async def test_the_index_links_to_each_page(path: str) -> None:
    body = (await page(path)).body.decode()
    for name in ("profile", "heap", "goroutine", "cmdline"):
        assert f'<a href="/debug/pprof/{name}">' in body
        assert (await page(f"/debug/pprof/{name}", {"seconds": "0.01"})).status == 200


async def test_a_profile_has_all_processes() -> None:
    workers = Workers()
    response = await page("/debug/pprof/profile", {"seconds": "0.01"}, workers)
    texts = [value for number, value in decode(gzip.decompress(response.body)) if number == 6]
    assert b"worker 0" in texts
    assert workers.called == ["5 cpu_profile 0.01"]
    text = (await page("/debug/pprof/heap", {"seconds": "0.01", "format": "collapsed"})).body.decode()
    assert "worker 0;worker.py:answer 20000000\n" in text


async def test_the_stacks_of_all_processes() -> None:
    body = (await page("/debug/pprof/goroutine")).body.decode()
    assert body.startswith("== control\ntask ")
    assert body.endswith("== worker 0\ntask of the worker")


@pytest.mark.parametrize(
    ("path", "query", "status", "text"),
    [
        ("/debug/pprof/profile", {"seconds": "x"}, 400, "seconds=x: a number was expected\n"),
        (
            "/debug/pprof/profile",
            {"seconds": "900"},
            400,
            "the time of a profile is more than 0 and at most 120 seconds\n",
        ),
        ("/debug/pprof/block", {}, 404, "404 a Python process has no such profile\n"),
    ],
)
async def test_requests_that_cannot_be_met(path: str, query: dict[str, str], status: int, text: str) -> None:
    response = await page(path, query)
    assert (response.status, response.body.decode()) == (status, text)


async def test_a_worker_that_does_not_reply() -> None:
    response = await page("/debug/pprof/goroutine", workers=Workers("the worker has ended"))
    assert (response.status, response.body) == (503, b"the worker has ended\n")
