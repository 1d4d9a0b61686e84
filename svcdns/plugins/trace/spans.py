"""The spans of a traced query while it is answered: cheap objects, which `export` turns into those of OpenTelemetry.

A span of OpenTelemetry's own tracer takes several times as long (docs/architecture.md#dependencies).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import getrandbits
from time import perf_counter_ns, time_ns
from typing import Final

NO_TAGS: Final[Mapping[str, str]] = {}


class Record:
    """The spans of one query. When the first span ends, all spans that have ended are passed to `put`.

    A span that ends later is passed to `put` alone.

    - `trace_id` is the number of the trace, and `text` is this number as text.
    - `debug` is True if the client asked for a trace of this query (header field X-B3-Flags).
    """

    __slots__ = ("_ended", "_is_over", "_offset", "_put", "debug", "text", "trace_id")

    def __init__(self, trace_id: int, text: str, put: Callable[[list[RecordedSpan]], None], *, debug: bool) -> None:
        self.trace_id, self.text, self.debug = trace_id, text, debug
        self._put, self._ended, self._is_over = put, list[RecordedSpan](), False
        self._offset = time_ns() - perf_counter_ns()

    def now(self) -> int:
        """Returns the nanoseconds since 1970. Within a trace, the number never gets smaller."""
        return self._offset + perf_counter_ns()

    def ended(self, span: RecordedSpan) -> None:
        """Adds a span that has ended."""
        if self._is_over:
            self._put([span])
            return
        self._ended.append(span)
        if span.is_first:
            self._is_over = True
            self._put(self._ended)


class RecordedSpan:
    """One span. The methods `child` and `end` are those of `svcdns.plugin_api.tracing.Span`.

    - `parent_id` is 0 for a span without a parent. `is_shared` is True if the client's span has the same identifier.
    - `ended_at` is 0 until the span ends. Times are in nanoseconds since 1970.
    - `error` is the text of an error, or empty.
    """

    __slots__ = (
        "ended_at", "error", "is_first", "is_shared", "name", "of", "parent_id", "span_id", "started_at", "tags",
    )  # fmt: skip

    def __init__(
        self,
        of: Record,
        name: str,
        span_id: int,
        parent_id: int,
        tags: Mapping[str, str] = NO_TAGS,
        *,
        is_first: bool = False,
        is_shared: bool = False,
    ) -> None:
        self.of, self.name, self.span_id, self.parent_id, self.tags = of, name, span_id, parent_id, tags
        self.is_first, self.is_shared = is_first, is_shared
        self.started_at, self.ended_at, self.error = of.now(), 0, ""

    @property
    def trace(self) -> str:
        """Returns the identifier of the trace, as text."""
        return self.of.text

    def child(self, name: str, tags: Mapping[str, str] | None = None) -> RecordedSpan:
        """Begins a span inside this span."""
        return RecordedSpan(self.of, name, new_id(), self.span_id, tags or NO_TAGS)

    def end(self) -> None:
        """Ends the span. Later calls have no effect."""
        if not self.ended_at:
            self.ended_at = self.of.now()
            self.of.ended(self)


def new_id() -> int:
    """Returns a random number of 63 bits, which is not 0."""
    return getrandbits(63) or 1
