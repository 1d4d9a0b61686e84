"""Reads the trace of a client from the header fields of an HTTP request (https://github.com/openzipkin/b3-propagation).

CoreDNS takes the same fields: X-B3-TraceId, X-B3-SpanId, X-B3-ParentSpanId, X-B3-Sampled and X-B3-Flags, or b3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from svcdns.plugin_api.tracing import HeaderFields

_TRACE: Final = re.compile(rb"(?:[0-9a-fA-F]{16}){1,2}")
_SPAN: Final = re.compile(rb"[0-9a-fA-F]{16}")
_DENIED: Final = (b"0", b"false")


@dataclass(frozen=True, slots=True)
class Remote:
    """The trace and the span of the client; 0 for numbers that the client did not send.

    `is_sampled` is False if the query must not be traced. `is_debug` is True if its trace must be kept.
    """

    trace_id: int = 0
    trace_text: str = ""
    span_id: int = 0
    parent_id: int = 0
    is_sampled: bool = True
    is_debug: bool = False


NONE: Final = Remote()


def remote(fields: HeaderFields) -> Remote:
    """Returns the client's trace from header fields. If one identifier is malformed, all identifiers are ignored."""
    if not fields:
        return NONE
    values = dict(fields)
    single = values.get(b"b3")
    if single is not None:
        parts = single.split(b"-")
        if len(parts) == 1:
            return Remote(is_sampled=parts[0] != b"0", is_debug=parts[0] == b"d")
        state = parts[2] if len(parts) > 2 else b""
        return _read(parts[0], parts[1], parts[3] if len(parts) > 3 else b"", state, debug=state == b"d")
    return _read(
        values.get(b"x-b3-traceid", b""),
        values.get(b"x-b3-spanid", b""),
        values.get(b"x-b3-parentspanid", b""),
        values.get(b"x-b3-sampled", b""),
        debug=values.get(b"x-b3-flags") == b"1",
    )


def _read(trace: bytes, span: bytes, parent: bytes, sampled: bytes, *, debug: bool) -> Remote:
    is_sampled = debug or sampled.lower() not in _DENIED
    usable = _TRACE.fullmatch(trace) and _SPAN.fullmatch(span) and (not parent or _SPAN.fullmatch(parent))
    if not usable or not int(trace, 16) or not int(span, 16):
        return Remote(is_sampled=is_sampled, is_debug=debug)
    return Remote(int(trace, 16), trace.decode().lower(), int(span, 16), int(parent or b"0", 16), is_sampled, debug)
