"""Exports spans to a Datadog agent: its trace API of version 0.4, msgpack over HTTP.

The fields are those of https://docs.datadoghq.com/tracing/guide/send_traces_to_agent_by_api/.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

from svcdns.plugins.trace.collector_http import CollectorHttp
from svcdns.plugins.trace.options import Collector

_LOW: Final = (1 << 64) - 1
_KEEP: Final = 1.0
"""The sampling priority of a trace that the agent keeps."""


class DatadogExporter(SpanExporter):
    """Sends spans to the agent of Datadog."""

    def __init__(self, collector: Collector) -> None:
        """`collector` has the rate of trace analytics."""
        headers = {"Content-Type": "application/msgpack", "Datadog-Meta-Lang": "python"}
        self._http = CollectorHttp(collector.url, "PUT", headers)
        self._service = collector.service
        self._first = {"_sampling_priority_v1": _KEEP, "_dd.top_level": 1.0}
        if collector.analytics_rate:
            self._first["_dd1.sr.eausr"] = collector.analytics_rate

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends spans in one request, those of a trace together. Raises CollectorError."""
        traces: dict[int, list[dict[str, Any]]] = {}
        for span in spans:
            assert span.context is not None
            traces.setdefault(span.context.trace_id, []).append(self._span(span))
        body = msgspec.msgpack.encode(list(traces.values()))
        self._http.send(body, {"X-Datadog-Trace-Count": str(len(traces))})
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Closes the connection."""
        self._http.close()

    def _span(self, span: ReadableSpan) -> dict[str, Any]:
        context, start, end = span.context, span.start_time or 0, span.end_time or 0
        assert context is not None
        meta = {key: str(value) for key, value in (span.attributes or {}).items()} | {"dns": "true"}
        failed = span.status.status_code is StatusCode.ERROR
        if failed:
            meta |= {"error.message": span.status.description or "", "error.type": "dns_error"}
        return {
            "service": self._service,
            "name": span.name,
            "resource": span.name,
            "type": "dns",
            "trace_id": context.trace_id & _LOW,
            "span_id": context.span_id,
            "parent_id": 0 if span.parent is None else span.parent.span_id,
            "start": start,
            "duration": max(1, end - start),
            "error": int(failed),
            "meta": meta,
            "metrics": self._first if span.parent is None else {},
        }
