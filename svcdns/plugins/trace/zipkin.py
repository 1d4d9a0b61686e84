"""Exports spans to Zipkin: JSON of version 2 over HTTP (https://zipkin.io/zipkin-api/), as CoreDNS writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode

from svcdns.plugins.trace.collector_http import CollectorHttp
from svcdns.plugins.trace.options import Collector

SHARED: Final = "b3shared"
"""The key in a span's trace state that stands for the member `shared`: the client's span has the same identifier."""
DEBUG: Final = "b3debug"
"""The key in a span's trace state that stands for the member `debug`."""
_LONG: Final = 1 << 64


class ZipkinExporter(SpanExporter):
    """Sends spans to Zipkin."""

    def __init__(self, collector: Collector, local: tuple[str, int] | None) -> None:
        """`local` is the address and port of the server, if it listens on one address."""
        headers = {"Content-Type": "application/json", "b3": "0"}  # b3: the collector does not trace the request
        self._http = CollectorHttp(collector.url, "POST", headers)
        self._endpoint: dict[str, Any] = {"serviceName": collector.service}
        if local is not None:
            self._endpoint["ipv6" if ":" in local[0] else "ipv4"] = local[0].partition("%")[0]
            self._endpoint["port"] = local[1]

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends spans in one request. Raises CollectorError."""
        self._http.send(msgspec.json.encode([self._span(span) for span in spans]))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Closes the connection."""
        self._http.close()

    def _span(self, span: ReadableSpan) -> dict[str, Any]:
        context, start, end = span.context, span.start_time or 0, span.end_time or 0
        assert context is not None
        found: dict[str, Any] = {
            "timestamp": start // 1000,
            "duration": max(1, (end - start) // 1000),
            "traceId": f"{context.trace_id:016x}" if context.trace_id < _LONG else f"{context.trace_id:032x}",
            "id": f"{context.span_id:016x}",
            "name": span.name,
            "localEndpoint": self._endpoint,
        }
        if span.parent is not None:
            found["parentId"] = f"{span.parent.span_id:016x}"
        if span.kind is SpanKind.SERVER:
            found["kind"] = "SERVER"
        if context.trace_state:
            found |= {name: True for key, name in ((SHARED, "shared"), (DEBUG, "debug")) if key in context.trace_state}
        tags = dict(span.attributes or {})
        if span.status.status_code is StatusCode.ERROR:
            tags["error"] = "true"
        if tags:
            found["tags"] = tags
        if span.events:
            found["annotations"] = [
                {"timestamp": event.timestamp // 1000, "value": value}
                for event in span.events
                for value in (
                    f"event:{event.name}",
                    *(f"{key}:{text!s}" for key, text in (event.attributes or {}).items()),
                )
            ]
        return found
