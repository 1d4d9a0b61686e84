"""The class of the `trace` plugin: begins and ends the first span of a traced query (docs/plugins/trace.md).

The sampler chooses the queries. The core makes the spans of the later plugins (`svcdns.chain.tracing`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from svcdns.log_line import LogLine
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.tracing import Sampler
from svcdns.plugins.trace import b3
from svcdns.plugins.trace.export import Exporter
from svcdns.plugins.trace.options import DATADOG, OTLP, Options
from svcdns.plugins.trace.spans import Record, RecordedSpan, new_id
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.wire import names
from svcdns.wire.codes import Rcode, rcode_text, type_text

FIRST: Final = "servedns"
"""The name of the first span, as in CoreDNS."""
TAGS: Final = ("name", "type", "rcode", "proto", "remote")
LOG_INTERVAL: Final = 60.0
"""The seconds between two log lines about failed requests."""

EXPORTED: Final = Family(
    "svcdns_trace_exported_spans_total", MetricKind.COUNTER, "Spans that a collector of traces has accepted."
)
DROPPED: Final = Family(
    "svcdns_trace_dropped_spans_total",
    MetricKind.COUNTER,
    "Spans that were dropped, because too many waited (queue) or because a request failed (collector).",
    ("reason",),
)


class Trace(Plugin):
    """Traces the queries that its sampler chooses. Passes all other queries on."""

    name = "trace"
    reads_nothing = True

    def __init__(self, options: Options, environment: Environment) -> None:
        """Uses the exporter of the previous configuration again, if it has the same collector."""
        self._sampler = Sampler(options.every) if options.every else None
        self._takes_headers = options.collector.kind != DATADOG
        self._client_server, self._long_ids = options.client_server, options.collector.kind == OTLP
        self._log, self._clock, self._counters = environment.log, environment.clock, environment.counters
        self._logged_at = -LOG_INTERVAL
        at = "@" if options.collector.kind == DATADOG else "/"
        self._tags = tuple(f"coredns.io{at}{tag}" for tag in TAGS)
        host, port = environment.listen_addresses[0] if environment.listen_addresses else ("", 0)
        local = (host, port) if host else None
        self._exporter: Exporter = environment.kept(
            (self.name, options.collector, local), lambda: Exporter(options.collector, local)
        )

    def sampler(self) -> Sampler | None:
        """Returns the object that chooses the queries; None if no query is traced."""
        return self._sampler

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002
        """Returns True: replies pass unchanged."""
        return True

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True: replies pass unchanged."""
        return True

    def join_fast_path(self, fast_path: FastPath) -> bool:  # noqa: ARG002
        """Returns True: traced queries never take the fast path (forwarding without the plugin chain)."""
        return True

    def join_cold_path(self, cold_path: ColdPath) -> bool:  # noqa: ARG002
        """Returns True: traced queries never take the cold path (replies without the plugin chain)."""
        return True

    def metadata(self, query: Query, label: str) -> str:
        """Returns the identifier of the query's trace for the label `trace/traceid`."""
        return query.span.trace if label == "trace/traceid" and query.span is not None else ""

    def handle(self, query: Query, following: Following) -> Answer:
        """Traces the query if it was chosen. Self-queries of a traced query belong to the same trace."""
        sampler = self._sampler
        if sampler is None or sampler.following is None:
            return following(query)
        if query.span is not None:
            return sampler.following(query)  # type: ignore[no-any-return]
        if not (sampler.chosen or (sampler.in_chain and not query.depth and sampler.take())):
            return following(query)
        headers, sampler.chosen, sampler.headers = sampler.headers, False, ()
        remote = b3.remote(headers) if self._takes_headers else b3.NONE
        return self._traced(query, sampler.following, remote) if remote.is_sampled else following(query)

    def tick(self) -> None:
        """Adds the exporter's numbers to the metrics, and logs why requests failed."""
        found = self._exporter.take_counts()
        if found.exported:
            self._counters.count(EXPORTED, amount=found.exported)
        if found.queue:
            self._counters.count(DROPPED, "queue", amount=found.queue)
        if found.collector:
            self._counters.count(DROPPED, "collector", amount=found.collector)
            if self._clock() - self._logged_at >= LOG_INTERVAL:
                self._logged_at = self._clock()
                self._log.warning(LogLine("spans were not exported", spans=found.collector, error=found.failure))

    def stop(self) -> None:
        """Adds the last numbers to the metrics."""
        self.tick()

    def _traced(self, query: Query, following: Callable[[Query], Answer], remote: b3.Remote) -> Answer:
        span = query.span = self._first_span(remote)
        try:
            answer = following(query)
        except Exception as error:
            self._end(span, query, Rcode.SERVFAIL, str(error) or type(error).__name__)
            raise

        def ended(reply: Reply) -> Reply:
            self._end(span, query, reply.rcode, reply.error)
            return reply

        return then(answer, ended)

    def _first_span(self, remote: b3.Remote) -> RecordedSpan:
        """Begins the first span, inside the client's span if there is one."""
        if not remote.trace_id:
            own = new_id()
            trace_id = new_id() << 64 | own if self._long_ids else own
            text = f"{trace_id:032x}" if self._long_ids else f"{trace_id:016x}"
            record = Record(trace_id, text, self._exporter.put, debug=remote.is_debug)
            return RecordedSpan(record, FIRST, own, 0, is_first=True)
        record = Record(remote.trace_id, remote.trace_text, self._exporter.put, debug=remote.is_debug)
        if self._client_server:
            return RecordedSpan(record, FIRST, remote.span_id, remote.parent_id, is_first=True, is_shared=True)
        return RecordedSpan(record, FIRST, new_id(), remote.span_id, is_first=True)

    def _end(self, span: RecordedSpan, query: Query, rcode: int, error: str) -> None:
        client = query.requestor
        values = (
            names.to_text(query.key), type_text(query.rtype), rcode_text(rcode), client.protocol,
            client.address.partition("%")[0],
        )  # fmt: skip
        span.tags, span.error = dict(zip(self._tags, values, strict=True)), error
        span.end()
