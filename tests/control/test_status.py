"""The document about the state of a server, and the pages for tools."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from svcdns.accelerator.metrics import REPLIES
from svcdns.control.admin_pages import AdminPages
from svcdns.control.configuration import check
from svcdns.control.http_message import Request
from svcdns.control.reload_log import ReloadLog
from svcdns.control.status import Queries, ServerParts, Status, StatusPage, _queries, schema
from svcdns.control.traffic import TrafficReport
from svcdns.control.traffic_samples import TrafficSamples
from svcdns.control.workers import CallError
from svcdns.corefile.parser import parse
from svcdns.feed.tool_messages import WorkerStatus
from svcdns.process.shared_memory import REGION_SIZE, SLOTS, State
from svcdns.serving.metrics import DURATION, REQUESTS, RESPONSES, TABLE_HITS
from svcdns.telemetry.counters import Counters
from svcdns.upstream.server import CIRCUIT_OPEN

ROOT = Path(__file__).parents[2]
COREFILE = "a.test:1053 {\n bind 127.0.0.1\n whoami\n}\n"


class Workers:
    """Workers whose functions return given results."""

    def __init__(self, **results: Any) -> None:
        self.results = results
        self.calls: list[tuple[int, str, bytes]] = []

    def callable_workers(self) -> dict[str, int]:
        return {f"worker {number}": number for number in range(2)}

    def named_states(self) -> dict[str, State]:
        return dict.fromkeys(self.callable_workers(), State.SERVING)

    async def call(self, region: int, function: str, argument: bytes, timeout: float) -> bytes:
        self.calls.append((region, function, argument))
        found = self.results[function]
        result = found(region, argument) if callable(found) else found
        if isinstance(result, Exception):
            raise result
        return msgspec.msgpack.encode(result)


def parts(regions: list[memoryview] | None = None, workers: Workers | None = None, **fields: Any) -> ServerParts:
    setup = check(parse(COREFILE, "Corefile", environ={}))
    views = SimpleNamespace(by_number={})
    values: dict[str, Any] = {
        "workers": workers or Workers(status=WorkerStatus(1, 2, 3, 4)), "views": views, "reloads": ReloadLog(lambda: 7.0),
        "traffic": TrafficSamples(Counters(), views, list),  # type: ignore[arg-type]
        **fields,
    }  # fmt: skip
    return ServerParts(lambda: setup, regions=regions or [], own=0, **values)


def region() -> tuple[Counters, memoryview]:
    made = memoryview(bytearray(REGION_SIZE))
    return Counters(made), made


async def test_a_document() -> None:
    counters, made = region()
    counters.count(REQUESTS, "dns://:53", ".", "", "udp", "1", "A", amount=3)
    counters.count(REQUESTS, "dns://:53", ".", "", "tcp", "1", "AAAA", amount=1)
    counters.count(RESPONSES, "dns://:53", ".", "", "NXDOMAIN", "cache", amount=4)
    counters.observe(DURATION, counters.cell(DURATION, "dns://:53", ".", ""), 0.0003)
    counters.count(TABLE_HITS, "dns://:53", amount=3)
    counters.count(REPLIES, "dns://:53", amount=2)
    counters.set(counters.cell(CIRCUIT_OPEN, "192.0.2.1:53"), 1)
    log = ReloadLog(lambda: 7.0)
    log.loaded()
    log.failed("Corefile:1 - no")
    found = await StatusPage(parts([memoryview(bytearray(REGION_SIZE))] * SLOTS + [made], reloads=log)).status()
    assert [msgspec.structs.astuple(one) for one in found.serving] == [
        ("a.test.", "dns://127.0.0.1:1053", "", ["bind", "whoami"])
    ]
    corefile = found.corefile
    assert (corefile.loaded_at, corefile.last_failure_at, corefile.last_error) == (7.0, 7.0, "Corefile:1 - no")
    queries = found.queries
    assert (queries.total, queries.types, queries.transports) == (4, {"A": 3, "AAAA": 1}, {"tcp": 1, "udp": 3})
    assert queries.rcodes == {"NXDOMAIN": 4}
    assert (queries.from_table, queries.from_kernel) == (3, 2)
    assert (queries.latency.counts[:3], queries.latency.sum) == ([0, 1, 0], 0.0003)
    assert len(queries.latency.counts) == len(queries.latency.bounds) + 1
    assert [(one.address, one.open_circuits) for one in found.upstreams] == [("192.0.2.1:53", 1)]
    assert found.memory.limit_bytes is None
    assert found.memory.share == 1.0
    assert [(one.name, one.state) for one in found.processes][2:] == [("worker 0", "serving"), ("worker 1", "serving")]
    assert found.processes[2].table_entries == 2


async def test_a_worker_that_does_not_report() -> None:
    found = await StatusPage(parts(workers=Workers(status=CallError("gone")))).status()
    assert [(one.name, one.pid) for one in found.processes][2:] == [("worker 0", 0), ("worker 1", 0)]


def test_rates() -> None:
    """They compare with the newest request that is at least half a second old."""
    empty = _queries({})
    page = StatusPage(parts())

    def queries(total: int) -> Queries:
        return msgspec.structs.replace(empty, total=total, rcodes={"NOERROR": total, "SERVFAIL": 0})

    assert page._rates(queries(10), 100.0) is None
    assert page._rates(queries(10), 100.2) is None
    found = page._rates(queries(30), 102.2)
    assert found is not None
    assert (found.seconds, found.queries, found.rcodes) == (
        pytest.approx(2.0),
        pytest.approx(10.0),
        {"NOERROR": pytest.approx(10.0)},
    )
    assert page._rates(queries(31), 102.3) is not None


def test_the_schema_in_the_documentation() -> None:
    assert json.loads((ROOT / "docs/schemas/status.json").read_text()) == schema()


def request(method: str, path: str, **query: str) -> Request:
    return cast("Request", SimpleNamespace(method=method, path=path, query=query))


async def test_pages() -> None:
    pages = AdminPages(parts())
    found = await pages.page(request("GET", "/v1/status"))
    assert (found.status, found.content_type) == (200, "application/json")
    assert msgspec.json.decode(found.body, type=Status).format == 1
    assert (await pages.page(request("POST", "/v1/status"))).status == 405
    assert (await pages.page(request("GET", "/v1/nothing"))).status == 404


async def test_the_page_traffic() -> None:
    counters, views = Counters(), SimpleNamespace(by_number={})
    samples = TrafficSamples(counters, views, list)  # type: ignore[arg-type]
    pages = AdminPages(parts(traffic=samples))
    found = await pages.page(request("GET", "/v1/traffic"))
    assert (found.status, found.body) == (400, b'{"error":"no server block has the plugin traffic"}\n')
    await samples.use(check(parse(". {\n traffic\n}", "Corefile", environ={})))
    found = await pages.page(request("GET", "/v1/traffic", top="5"))
    assert msgspec.json.decode(found.body, type=TrafficReport).format == 1
    for text in ("", "0", "2001", "x", "²"):
        assert (await pages.page(request("GET", "/v1/traffic", top=text))).status == 400
