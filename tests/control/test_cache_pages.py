"""The pages that list and flush the stored replies of all workers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from svcdns.control.admin_pages import AdminPages
from svcdns.control.cache_pages import CacheFlush, CacheList, schemas
from svcdns.control.http_message import Request
from svcdns.control.workers import CallError
from svcdns.plugin_api.stored import Selection, StoredReplies, StoredReply
from svcdns.wire import names
from tests.control.test_status import Workers, parts

ROOT = Path(__file__).parents[2]
A, B = names.from_text("a.test."), names.from_text("b.test.")


async def asked(workers: Workers, method: str, path: str, **query: str) -> tuple[int, bytes]:
    request = cast("Request", SimpleNamespace(method=method, path=f"/v1/{path}", query=query))
    response = await AdminPages(parts(workers=workers)).page(request)
    return response.status, response.body


def listed(region: int, _argument: bytes) -> StoredReplies:
    replies = [
        StoredReply("table", "dns://:53", B, 1, 0, 5, None),
        StoredReply("cache", "dns://:53", A, 65, 3, 7, 3.25, 2),
    ]
    return StoredReplies(4, replies[region:])


async def test_replies_of_all_workers_are_joined() -> None:
    status, body = await asked(Workers(list_replies=listed), "GET", "cache")
    found = msgspec.json.decode(body, type=CacheList)
    assert (status, found.format, found.total) == (200, 1, 8)
    assert [
        (one.name, one.type, one.rcode, one.expires_in, one.hits, one.count, one.workers) for one in found.replies
    ] == [
        ("a.test.", "HTTPS", "NXDOMAIN", 3.25, 4, 2, ["worker 0", "worker 1"]),
        ("b.test.", "A", "NOERROR", None, None, 1, ["worker 0"]),
    ]


@pytest.mark.parametrize(
    ("query", "selection", "limit"),
    [
        ({}, Selection(), 1000),
        ({"name": "A.test", "type": "aaaa"}, Selection(A, rtype=28), 1000),
        ({"zone": "A.TEST.", "type": "TYPE65", "limit": "5"}, Selection(zone=A, rtype=65), 5),
    ],
)
async def test_parameters(query: dict[str, str], selection: Selection, limit: int) -> None:
    workers = Workers(list_replies=StoredReplies(0, []))
    assert (await asked(workers, "GET", "cache", **query))[0] == 200
    assert msgspec.msgpack.decode(workers.calls[0][2], type=tuple[Selection, int]) == (selection, limit)


@pytest.mark.parametrize(
    ("method", "path", "query", "error"),
    [
        ("GET", "cache", {"name": "a..b"}, "'a..b' is no domain name"),
        ("GET", "cache", {"type": "TYPE99999"}, "'TYPE99999' is no record type"),
        ("GET", "cache", {"limit": "0"}, "limit=0: a number from 1 to 50000 was expected"),
        ("POST", "cache/flush", {}, "a name or a zone was expected"),
        ("GET", "cache/flush", {"zone": "."}, "cache/flush needs POST"),
    ],
)
async def test_wrong_requests(method: str, path: str, query: dict[str, str], error: str) -> None:
    """None of them reaches a worker."""
    workers = Workers()
    status, body = await asked(workers, method, path, **query)
    assert status in (400, 405)
    assert error in json.loads(body)["error"]
    assert workers.calls == []


async def test_a_flush() -> None:
    workers = Workers(drop_replies=lambda region, _: {"table": 2, "cache": region})
    status, body = await asked(workers, "POST", "cache/flush", name="a.test")
    found = msgspec.json.decode(body, type=CacheFlush)
    assert (status, found.flushed, found.stores) == (200, 5, {"table": 4, "cache": 1})
    assert found.workers == {"worker 0": 2, "worker 1": 3}


async def test_a_worker_that_fails() -> None:
    """The tool is told, because replies may be left."""
    workers = Workers(drop_replies=CallError("the worker has ended"))
    assert await asked(workers, "POST", "cache/flush", zone=".") == (503, b'{"error":"the worker has ended"}\n')


@pytest.mark.parametrize("file", sorted(schemas()))
def test_the_schemas_in_the_documentation(file: str) -> None:
    found: Any = json.loads((ROOT / "docs/schemas" / file).read_text())
    assert found == schemas()[file]
