"""The plugin contract: what a plugin module offers, and how a handler hands a question on.

A plugin module has `parse(block) -> Options` (frozen, no I/O) and `PLUGIN`, the class that is made of those options and an
`Environment`, or None where the directive only configures. A handler returns a reply or what `following` returned;
it never touches a client's socket. Replies may come later: a handler that looks at what follows uses `then`, which costs
a plain call when the reply is there at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol

import msgspec

from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply

Following = Callable[[Query], Answer]
"""The rest of the chain."""


class Handler(Protocol):
    """A plugin in a chain. It may also have `start()`, `stop()` (each plain, called when its chain goes live and when it is replaced),
    `ready() -> bool`, and `shrink(share)`, an iterator at each step of which it gives up a little of what it keeps, down to that part of
    its usual size. One whose replies depend on who asks has `audience(address) -> str`: the class that it puts a client's
    address into; and `client_class_dependencies`, the kinds of owners that a class rests on (such as {"pod"}). One with
    `echoed_options` has the
    core echo EDNS options of these codes besides its own. One whose dealing with a negative answer does not depend on the name says
    so for a zone with `alike(zone) -> bool`; one that knows what its `zones` lack has `absent(key, rtype)`
    (`chain.routing.FindEncloser`). One
    that can say how outside names and plain replies pass it has `relays(relay) -> bool` (`chain.fast_path`)."""

    name: str

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers the query, or returns what `following(query)` returns, changed or not."""
        ...


class PluginModule(Protocol):
    """What `plugins/<name>.py` offers."""

    PLUGIN: Any

    def parse(self, block: Any) -> Any:
        """Frozen options from the block's directives of this name. Raises CorefileError. No I/O."""
        ...


def then(answer: Answer, change: Callable[[Reply], Reply]) -> Answer:
    """`change` applied to the reply, now if it is there, else when it comes. The answer is nobody else's from then on."""
    if isinstance(answer, Reply):
        return change(answer)
    if isinstance(answer, Deferred):
        answer.then(change)
        return answer
    return _then(answer, change)


async def _then(answer: Awaitable[Reply], change: Callable[[Reply], Reply]) -> Reply:
    return change(await answer)


def steps(work: Generator[Answer, Reply, Reply]) -> Answer:
    """Runs a generator that yields each answer it needs and is sent the reply; its return value, now if nothing had to be waited for."""
    try:
        answer = next(work)
        while isinstance(answer, Reply):
            answer = work.send(answer)
    except StopIteration as end:
        reply: Reply = end.value
        return reply
    return _steps(work, answer)


async def _steps(work: Generator[Answer, Reply, Reply], answer: Answer) -> Reply:
    try:
        while True:
            answer = work.send(answer if isinstance(answer, Reply) else await answer)
    except StopIteration as end:
        reply: Reply = end.value
        return reply


def joined(reply: Reply, other: Reply) -> Reply:
    """`reply` with the reuse terms of another that it was made from: the shorter lifetime, and all owners; and its extended error.

    Where the other's TTLs go down, the joined reply lives until they do: what of them went into it is not known here.
    """
    return msgspec.structs.replace(
        reply,
        lifetime=min(reply.lifetime, other.lifetime, other.next_second),
        dependencies=reply.dependencies + tuple(o for o in other.dependencies if o not in reply.dependencies),
        scope=max(reply.scope, other.scope),
        increments=reply.increments + other.increments,
        extended=reply.extended if reply.extended is not None else other.extended,
    )
