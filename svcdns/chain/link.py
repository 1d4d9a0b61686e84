"""One plugin in a chain: its `handle` with the rest of the chain, and with what it read applied to its reply.

See `svcdns.plugin_api.reuse`. An exception that a plugin raises leaves the chain with a note that names the plugin.
"""

from __future__ import annotations

from collections.abc import Awaitable
from types import CoroutineType

from svcdns.plugin_api.contract import Following, Plugin, overrides
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import CacheScope, Reply
from svcdns.plugin_api.reuse import (
    CORE,
    NO_ANSWER,
    OUTSIDE,
    Current,
    Invocation,
    PluginContext,
    Within,
    blame,
    carried,
    running,
)


def context_of(plugin: Plugin) -> PluginContext:
    """What is noted for a plugin: a client's address gives its reply the scope of a client class only if the plugin has
    classes.
    """
    scope = CacheScope.CLIENT_CLASS if overrides(plugin, "client_class") else CacheScope.CLIENT
    return PluginContext(plugin.name, scope, states_reuse=plugin.states_reuse)


def link(plugin: Plugin, following: Following) -> Following:
    """The plugin and the rest of the chain as one function."""
    handle, context, name, states_reuse = plugin.handle, context_of(plugin), plugin.name, plugin.states_reuse

    def handle_plainly(query: Query) -> Answer:
        try:
            answer = handle(query, following)
        except Exception as error:
            blame(error, name)
            raise
        running.last = answer
        return answer

    def handle_noted(query: Query) -> Answer:
        outer = running.current
        if running.last is not NO_ANSWER and outer is not OUTSIDE:  # the outer plugin comes here for the second time
            outer = outer.begin()
            outer.followed.append(running.last)
        running.current = context
        running.last = NO_ANSWER
        try:
            answer = handle(query, following)
            current = running.current
        except Exception as error:
            blame(error, name)
            raise
        finally:
            running.current = outer
        last = running.last
        if current is not context or not (
            answer is last or (type(answer) is Reply and (last is NO_ANSWER or states_reuse))
        ):
            answer = _settled(answer, current, last)
        running.last = answer
        return answer

    return handle_plainly if plugin.reads_nothing else handle_noted


def _settled(answer: Answer, current: Current, last: Answer) -> Answer:
    """A plugin's answer with the terms of what it read: of a reply at once, of one to come when it is there.

    `last` is what the rest of the chain gave the plugin last.
    """
    if isinstance(answer, Reply):
        if isinstance(last, Reply) and last is not answer and not current.states_reuse:
            answer = carried(answer, last)
        return current.apply(answer) if isinstance(current, Invocation) else answer
    if isinstance(answer, Deferred):
        if isinstance(current, Invocation):
            answer.then(current.apply_later, CORE)
        return answer
    if isinstance(answer, CoroutineType):
        return Within(answer, current.as_invocation(), [last] if isinstance(last, Reply) else [])
    if answer is not last and not current.states_reuse:
        # a task or a future of the plugin's own: what is read for it cannot be seen
        current = current.as_invocation()
        current.read(CacheScope.CLIENT)
    return Within(_waited(answer), current, []) if isinstance(current, Invocation) else answer


async def _waited(answer: Awaitable[Reply]) -> Reply:
    return await answer
