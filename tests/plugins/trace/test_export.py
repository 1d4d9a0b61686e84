"""The queue and the thread of the exporter, and the three formats, against a collector on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import replace
from time import monotonic
from typing import Any

import msgspec
import pytest

from svcdns.plugins.trace.export import Counts, Exporter
from svcdns.plugins.trace.options import PATHS
from svcdns.plugins.trace.options import Collector as Options
from svcdns.plugins.trace.spans import Record, RecordedSpan
from svcdns.wire.protobuf import decode
from tests.support.collector import Collector

TAGS = {"coredns.io/name": "a.example.org.", "coredns.io/rcode": "NOERROR"}


def options(kind: str, address: str, **values: Any) -> Options:
    return replace(Options(kind, f"http://{address}{PATHS[kind]}", interval=0.01), **values)


def put_trace(exporter: Exporter, *, error: str = "", trace_id: int = 0xAA) -> Record:
    """Passes a trace of three spans to the exporter."""
    record = Record(trace_id, f"{trace_id:016x}", exporter.put, debug=False)
    first = RecordedSpan(record, "servedns", 0xAA, 0, is_first=True)
    forward = first.child("forward")
    connect = forward.child("connect", {"peer.address": "192.0.2.1:53"})
    for span in (connect, forward):
        span.end()
    first.tags, first.error = TAGS, error
    first.end()
    return record


async def counts_of(exporter: Exporter) -> Counts:
    """Ends the exporter, and returns its numbers."""
    await exporter.finish()
    return exporter.take_counts()


async def test_zipkin() -> None:
    """The JSON has the members that CoreDNS writes."""
    with Collector() as collector:
        exporter = Exporter(options("zipkin", collector.address), ("192.0.2.53", 53))
        put_trace(exporter, error="no healthy proxies")
        request = collector.next()
        assert (await counts_of(exporter)).exported == 3
    assert (request.method, request.path) == ("POST", "/api/v2/spans")
    assert (request.headers["content-type"], request.headers["b3"]) == ("application/json", "0")
    connect, forward, first = json.loads(request.body)
    local = {"serviceName": "coredns", "ipv4": "192.0.2.53", "port": 53}
    assert [one["value"] for one in first.pop("annotations")] == ["event:error", "error.object:no healthy proxies"]
    assert first.pop("timestamp") > 1_700_000_000_000_000
    assert first.pop("duration") > 0
    assert first == {
        "traceId": "00000000000000aa",
        "id": "00000000000000aa",
        "name": "servedns",
        "kind": "SERVER",
        "localEndpoint": local,
        "tags": TAGS | {"error": "true"},
    }
    assert (forward["parentId"], connect["parentId"]) == (first["id"], forward["id"])
    assert connect["tags"] == {"peer.address": "192.0.2.1:53"}
    assert "kind" not in forward
    assert "tags" not in forward


async def test_zipkin_with_a_span_of_the_client() -> None:
    """A span that has the client's identifier is marked, and a long identifier of the trace is kept."""
    with Collector() as collector:
        exporter = Exporter(options("zipkin", collector.address), None)
        record = Record(0xAA << 64 | 0xBB, "", exporter.put, debug=True)
        RecordedSpan(record, "servedns", 0xCC, 0xDD, is_first=True, is_shared=True).end()
        (span,) = json.loads(collector.next().body)
        await exporter.finish()
    assert (span["shared"], span["debug"], span["parentId"]) == (True, True, "00000000000000dd")
    assert span["traceId"] == "00000000000000aa00000000000000bb"


async def test_datadog() -> None:
    """The agent gets traces of spans in msgpack."""
    with Collector(status=200) as collector:
        exporter = Exporter(options("datadog", collector.address, analytics_rate=0.5, interval=30, batch=6), None)
        put_trace(exporter, trace_id=0xBB)
        put_trace(exporter, error="refused", trace_id=0xAA << 64 | 0xCC)
        request = collector.next()
        assert (await counts_of(exporter)).exported == 6
    assert (request.method, request.path) == ("PUT", "/v0.4/traces")
    assert request.headers["content-type"] == "application/msgpack"
    assert request.headers["x-datadog-trace-count"] == "2"
    one, other = msgspec.msgpack.decode(request.body)
    connect, forward, first = one
    assert (first["name"], first["service"], first["resource"], first["type"]) == (
        "servedns",
        "coredns",
        "servedns",
        "dns",
    )
    assert (first["trace_id"], first["parent_id"], first["error"]) == (0xBB, 0, 0)
    assert first["meta"] == TAGS | {"dns": "true"}
    assert first["metrics"] == {"_sampling_priority_v1": 1.0, "_dd.top_level": 1.0, "_dd1.sr.eausr": 0.5}
    assert (forward["parent_id"], connect["parent_id"]) == (first["span_id"], forward["span_id"])
    assert connect["duration"] > 0
    assert other[2]["trace_id"] == 0xCC
    assert (other[2]["error"], other[2]["meta"]["error.message"]) == (1, "refused")


def fields(message: bytes) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for number, value in decode(message):
        found.setdefault(number, []).append(value)
    return found


def attributes(messages: Iterable[bytes]) -> dict[str, str]:
    pairs = [fields(one) for one in messages]
    return {pair[1][0].decode(): fields(pair[2][0])[1][0].decode() for pair in pairs}


async def test_otlp() -> None:
    """The receiver gets a message of Protocol Buffers (opentelemetry-proto, trace_service.proto)."""
    with Collector(status=200) as collector:
        exporter = Exporter(options("otlp", collector.address, service="dns"), None)
        put_trace(exporter, error="refused", trace_id=0xAA << 64 | 0xBB)
        request = collector.next()
        assert (await counts_of(exporter)).exported == 3
    assert (request.method, request.path) == ("POST", "/v1/traces")
    assert request.headers["content-type"] == "application/x-protobuf"
    (resource_spans,) = fields(request.body)[1]
    resource, scoped = (fields(fields(resource_spans)[number][0]) for number in (1, 2))
    assert attributes(resource[1])["service.name"] == "dns"
    assert fields(scoped[1][0])[1] == [b"svcdns"]
    connect, forward, first = map(fields, scoped[2])
    assert first[1] == [(0xAA << 64 | 0xBB).to_bytes(16, "big")]
    assert (first[5], first[6], forward[6]) == ([b"servedns"], [2], [1])
    assert 4 not in first
    assert (forward[4], connect[4]) == (first[2], forward[2])
    assert 1_700_000_000_000_000_000 < first[7][0] <= first[8][0]
    assert attributes(first[9]) == TAGS
    assert attributes(connect[9]) == {"peer.address": "192.0.2.1:53"}
    assert fields(first[15][0]) == {2: [b"refused"], 3: [2]}
    assert fields(first[11][0])[2] == [b"error"]
    assert 15 not in connect


async def test_a_late_span_is_exported_alone() -> None:
    """A span that ends after the first one, such as a query to a slow upstream, is part of the trace."""
    with Collector() as collector:
        exporter = Exporter(options("zipkin", collector.address), None)
        record = Record(1, "1", exporter.put, debug=False)
        first = RecordedSpan(record, "servedns", 1, 0, is_first=True)
        late = first.child("connect")
        first.end()
        first.end()
        collector.next()
        late.end()
        (span,) = json.loads(collector.next().body)
        assert (span["name"], span["parentId"]) == ("connect", "0000000000000001")
        assert (await counts_of(exporter)).exported == 2


async def test_a_full_queue_drops_the_oldest_spans() -> None:
    """While the collector hangs, `put` returns without waiting. Spans above the backlog are counted."""
    with Collector(hangs=True) as collector:
        exporter = Exporter(options("zipkin", collector.address, backlog=30, batch=3, interval=30), None)
        put_trace(exporter)
        collector.next()
        began = monotonic()
        for number in range(1, 101):
            put_trace(exporter, trace_id=number)
        assert monotonic() - began < 5
        assert exporter.take_counts() == Counts(queue=270)
    await exporter.finish()


@pytest.mark.parametrize(
    ("status", "raw", "failure"),
    [
        (500, b"", "status 500"),
        (302, b"", "status 302"),
        (0, b"\x16\x03\x01 no HTTP\r\n\r\n", "BadStatusLine"),
        (0, b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n", "HTTPException"),
        (0, b"HTTP/1.1 202 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 20_000, ""),
    ],
)
async def test_a_collector_that_lies_costs_only_its_spans(status: int, raw: bytes, failure: str) -> None:
    """A request that fails is not repeated: its spans are dropped, and the next spans are sent."""
    with Collector(status, raw) as collector:
        exporter = Exporter(options("zipkin", collector.address), None)
        put_trace(exporter)
        collector.next()
        put_trace(exporter)
        collector.next()
        counts = await counts_of(exporter)
    assert failure in counts.failure
    assert (counts.exported, counts.collector) == ((0, 6) if failure else (6, 0))


async def test_a_collector_that_is_not_there() -> None:
    """Spans for a closed port are dropped."""
    with Collector() as collector:
        exporter = Exporter(options("zipkin", collector.address), None)
    put_trace(exporter)
    counts = await counts_of(exporter)
    assert (counts.collector, counts.exported) == (3, 0)
    assert "ConnectionRefusedError" in counts.failure


async def test_the_end_of_a_worker_sends_what_waits() -> None:
    """`finish` does not wait for the end of the interval."""
    with Collector() as collector:
        exporter = Exporter(options("zipkin", collector.address, interval=3600), None)
        put_trace(exporter)
        assert (await counts_of(exporter)).exported == 3
        assert len(json.loads(collector.next().body)) == 3


async def test_the_end_of_a_worker_does_not_wait_for_a_collector_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """`finish` returns after FLUSH_TIMEOUT, while the thread still waits."""
    monkeypatch.setattr("svcdns.plugins.trace.export.FLUSH_TIMEOUT", 0.02)
    with Collector(hangs=True) as collector:
        exporter = Exporter(options("zipkin", collector.address), None)
        put_trace(exporter)
        collector.next()
        await exporter.finish()
        assert any(thread.name == "trace" for thread in threading.enumerate())
    monkeypatch.undo()
    await exporter.finish()


async def test_an_exporter_without_spans_has_no_thread() -> None:
    """The thread starts with the first span."""
    before = set(threading.enumerate())
    exporter = Exporter(options("zipkin", "127.0.0.1:1"), None)
    await exporter.finish()
    assert set(threading.enumerate()) <= before
