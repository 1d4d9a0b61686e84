"""A second plugin chain of a server block, for traced queries only: each plugin has a span (docs/plugins/trace.md).

Both chains have the same plugins. A query takes the chain with spans only after the plugin *trace* has chosen it, so
that all other queries lose no time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any

from svcdns.chain.plan import BlockPlan, Load
from svcdns.chain.routing import Listener
from svcdns.plugin_api.contract import Following, Plugin, overrides
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.hooks import HookCaller
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.reuse import CORE, running
from svcdns.plugin_api.tracing import Sampler, Span


def sampler_of(
    block: BlockPlan,
    handlers: Sequence[Plugin],
    load: Load,
    hooks: HookCaller,
    join: Callable[[Plugin, Following], Following],
    end: Callable[[str], Following],
) -> Sampler | None:
    """Returns the sampler of a block, with the chain for its traced queries. Returns None if the block has none.

    `end(name)` returns the step after the last plugin of the chain, which has the name `name`.
    """
    tracing = next((handler for handler in handlers if overrides(handler, "sampler")), None)
    sampler: Sampler | None = None if tracing is None else hooks.call(tracing.name, None, tracing.sampler)
    if tracing is None or sampler is None:
        return None
    by_name, directives = {handler.name: handler for handler in handlers}, list(block.options)
    following = end(handlers[-1].name)
    for name in reversed(directives[directives.index(tracing.name) + 1 :]):
        if name in by_name:
            following = _spanned(name, join(by_name[name], following))
        elif load(name).PLUGIN.has_span:
            following = _spanned(name, following)
    sampler.following = following
    return sampler


def count_for_samplers(listener: Listener) -> None:
    """Sets who counts the queries of blocks with samplers: the core, or the plugin chain if the listener has views."""
    samplers = [route.sampler for route in listener.all_routes if route.sampler is not None]
    if listener.candidates is None:
        listener.sampled = bool(samplers)
    elif samplers:
        listener.stores = False
        for sampler in samplers:
            sampler.in_chain = True


def _spanned(name: str, step: Following) -> Following:
    """Returns `step` with a span, which ends when the reply is there."""

    def handle(query: Query) -> Answer:
        outer: Span | None = query.span
        if outer is None:
            return step(query)
        span = query.span = outer.child(name)
        try:
            answer = step(query)
        except Exception:
            span.end()
            raise
        finally:
            query.span = outer
        if isinstance(answer, Reply):
            span.end()
            return answer

        def ended(reply: Reply) -> Reply:
            span.end()
            return reply

        if isinstance(answer, Deferred):
            answer.then(ended, CORE)
            return answer
        running.last = waiting = _Spanned(answer, query, span)
        return waiting

    return handle


class _Spanned:
    """An awaitable answer of a plugin. While the answer is computed, `Query.span` is the plugin's span."""

    __slots__ = ("_answer", "_query", "_span")

    def __init__(self, answer: Awaitable[Reply], query: Query, span: Span) -> None:
        self._answer, self._query, self._span = answer, query, span

    def __await__(self) -> Generator[Any, Any, Reply]:
        steps: Any = self._answer.__await__()
        value, error = None, None
        while True:
            try:
                found = self._step(steps, value, error)
            except StopIteration as end:
                self._span.end()
                reply: Reply = end.value
                return reply
            except BaseException:
                self._span.end()
                raise
            try:
                value, error = (yield found), None
            except BaseException as raised:  # noqa: BLE001 - the plugin gets every exception, also its cancellation
                error = raised

    def _step(self, steps: Any, value: Any, error: BaseException | None) -> Any:
        query, outer = self._query, self._query.span
        query.span = self._span
        try:
            return steps.send(value) if error is None else steps.throw(error)
        finally:
            query.span = outer
