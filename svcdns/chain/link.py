"""Links one plugin to the rest of its chain, as one function that handles a query.

The function adds reuse terms to the plugin's reply, from the data that the plugin read (`svcdns.plugin_api.reuse`). An
exception of the plugin gets a note with the plugin's name.
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
    no_reply,
    running,
)


def context_of(plugin: Plugin) -> PluginContext:
    """Returns the context in which a plugin's code runs.

    If the plugin reads the client's address for a reply, the reply is for this client only. If the plugin has client
    classes, the reply is for all clients of the same class.
    """
    scope = CacheScope.CLIENT_CLASS if overrides(plugin, "client_class") else CacheScope.CLIENT
    return PluginContext(plugin.name, scope, states_reuse=plugin.states_reuse)


def link(plugin: Plugin, following: Following) -> Following:
    """Returns one function that passes a query to the plugin, and through it to the rest of the plugin chain."""
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
        if running.last is not NO_ANSWER and outer is not OUTSIDE:  # the outer plugin calls the rest of the chain again
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
    """Adds the reuse terms (clients, lifetime, dependencies) to a plugin's answer.

    A reply gets the terms now, a deferred reply when it arrives. `last` is the latest answer that the plugin got from
    the rest of the chain.
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
    if not isinstance(answer, Awaitable):
        raise no_reply(current.name, answer)
    if answer is not last and not current.states_reuse:
        # the plugin's own task or future: what such code reads is not recorded
        current = current.as_invocation()
        current.read(CacheScope.CLIENT)
    return Within(_waited(answer), current, []) if isinstance(current, Invocation) else answer


async def _waited(answer: Awaitable[Reply]) -> Reply:
    return await answer
