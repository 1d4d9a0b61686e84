"""Exports spans over OTLP: messages of Protocol Buffers over HTTP (https://opentelemetry.io/docs/specs/otlp/).

OpenTelemetry's own exporter needs requests, urllib3, protobuf and googleapis-common-protos. The messages have few
fields, whose public numbers are here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode

from svcdns import __version__
from svcdns.plugins.trace.collector_http import CollectorHttp
from svcdns.plugins.trace.options import Collector
from svcdns.wire.protobuf import encode

_KINDS: Final = {SpanKind.INTERNAL: 1, SpanKind.SERVER: 2}
_ERROR: Final = 2
_START, _END, _EVENT_TIME = b"\x39", b"\x41", b"\x09"
"""The tags of the fields 7, 8 and 1 with 64 bits (`fixed64`)."""
_SCOPE: Final = encode([(1, b"svcdns"), (2, __version__.encode())])


class OtlpExporter(SpanExporter):
    """Sends spans to a receiver of OTLP over HTTP."""

    def __init__(self, collector: Collector) -> None:
        """`collector` has the URL and the name of the service."""
        self._http = CollectorHttp(collector.url, "POST", {"Content-Type": "application/x-protobuf"})

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends spans in one request. Raises CollectorError."""
        resource = encode([(1, one) for one in _attributes(spans[0].resource.attributes)])
        scoped = encode([(1, _SCOPE), *((2, _span(span)) for span in spans)])
        self._http.send(encode([(1, encode([(1, resource), (2, scoped)]))]))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Closes the connection."""
        self._http.close()


def _span(span: ReadableSpan) -> bytes:
    context = span.context
    assert context is not None
    head = encode(
        [
            (1, context.trace_id.to_bytes(16, "big")),
            (2, context.span_id.to_bytes(8, "big")),
            (4, b"" if span.parent is None else span.parent.span_id.to_bytes(8, "big")),
            (5, span.name.encode()),
            (6, _KINDS[span.kind]),
        ]
    )
    times = _START + _fixed(span.start_time) + _END + _fixed(span.end_time)
    fields: list[tuple[int, int | bytes]] = [(9, one) for one in _attributes(span.attributes or {})]
    for event in span.events:
        attributes = [(3, one) for one in _attributes(event.attributes or {})]
        fields.append((11, _EVENT_TIME + _fixed(event.timestamp) + encode([(2, event.name.encode()), *attributes])))
    if span.status.status_code is StatusCode.ERROR:
        fields.append((15, encode([(2, (span.status.description or "").encode()), (3, _ERROR)])))
    return head + times + encode(fields)


def _fixed(nanoseconds: int | None) -> bytes:
    return (nanoseconds or 0).to_bytes(8, "little")


def _attributes(values: Mapping[str, Any]) -> list[bytes]:
    return [encode([(1, key.encode()), (2, encode([(1, str(value).encode())]))]) for key, value in values.items()]
