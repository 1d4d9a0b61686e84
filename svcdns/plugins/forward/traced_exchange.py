"""The exchange of a traced query: each query to an upstream has a span `connect`, as in CoreDNS (plugin *trace*)."""

from __future__ import annotations

from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.tracing import Span
from svcdns.plugins.forward.tapped_exchange import TappedExchange
from svcdns.upstream.query import ExchangeError, Received
from svcdns.upstream.server import Attempt, Server

NAME = "connect"


def tags(upstream: str) -> dict[str, str]:
    """Returns the tags of a span for an upstream with the label `upstream`."""
    return {"peer.address": upstream}


class TracedExchange(TappedExchange, eq=False):
    """An exchange that a traced query has started. Set `span`, the span of *forward*, before `start`."""

    span: Span | None = None
    _spans: list[tuple[Attempt, Span]] = []  # noqa: RUF012 - msgspec copies it

    def _send(self, server: Server, now: float, timeout: float, *, tcp: bool = False) -> None:
        assert self.span is not None
        span = self.span.child(NAME, tags(server.label))
        super()._send(server, now, timeout, tcp=tcp)
        self._spans.append((self._attempts[-1], span))

    def _attempt_completed(self, attempt: Attempt, outcome: Received | ExchangeError) -> None:
        for one, span in self._spans:
            if one is attempt:
                span.end()
        super()._attempt_completed(attempt, outcome)

    def _finish(self, reply: Reply | None = None) -> None:
        for _, span in self._spans:
            span.end()
        super()._finish(reply)
