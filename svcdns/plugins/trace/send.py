"""Turns spans into those of OpenTelemetry's SDK, and exports them. Runs in the thread of `export.Exporter`.

All formats are exporters with the SDK's interface (`SpanExporter`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from svcdns.plugins.trace.collector_http import CollectorError
from svcdns.plugins.trace.datadog import DatadogExporter
from svcdns.plugins.trace.options import DATADOG, OTLP, Collector
from svcdns.plugins.trace.otlp import OtlpExporter
from svcdns.plugins.trace.spans import RecordedSpan
from svcdns.plugins.trace.zipkin import DEBUG, SHARED, ZipkinExporter

CHUNK: Final = 32
"""The number of spans after which the thread lets the worker's event loop run."""
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_STATES: Final = {
    (shared, debug): TraceState([(key, "1") for key, value in ((SHARED, shared), (DEBUG, debug)) if value])
    for shared in (False, True)
    for debug in (False, True)
}


class Sending:
    """The exporter of one collector."""

    def __init__(self, collector: Collector, local: tuple[str, int] | None) -> None:
        self._resource = Resource({SERVICE_NAME: collector.service})
        self._exporter: SpanExporter
        if collector.kind == DATADOG:
            self._exporter = DatadogExporter(collector)
        elif collector.kind == OTLP:
            self._exporter = OtlpExporter(collector)
        else:
            self._exporter = ZipkinExporter(collector, local)

    def send(self, spans: Sequence[RecordedSpan]) -> str:
        """Exports spans. Returns an empty text, or the reason why the spans were not exported."""
        try:
            found: list[ReadableSpan] = []
            for number, span in enumerate(spans, 1):
                found.append(self._readable(span))
                if not number % CHUNK:
                    time.sleep(0)  # releases the interpreter lock
            if self._exporter.export(found) is SpanExportResult.SUCCESS:
                return ""
        except CollectorError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a collector's response must not end the thread
            return f"{type(error).__name__}: {error}"
        return "the exporter failed"

    def close(self) -> None:
        """Closes the connection."""
        self._exporter.shutdown()

    def _readable(self, span: RecordedSpan) -> ReadableSpan:
        trace = span.of
        context = SpanContext(trace.trace_id, span.span_id, False, _SAMPLED, _STATES[span.is_shared, trace.debug])
        return ReadableSpan(
            name=span.name,
            context=context,
            parent=SpanContext(trace.trace_id, span.parent_id, False, _SAMPLED) if span.parent_id else None,
            resource=self._resource,
            attributes=span.tags,
            events=(Event("error", {"error.object": span.error}, span.ended_at),) if span.error else (),
            kind=SpanKind.SERVER if span.is_first else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=span.started_at,
            end_time=span.ended_at,
        )
