"""Records what a plugin reads while its code runs, and makes the reuse terms of its reply from it.

The reuse terms are the clients that may get the reply again, its lifetime, and its dependencies. The core sets
`running.current` while code of a plugin runs for a query. Reads through the query and the environment are recorded
there: replies to self-queries (queries of the plugin to this server), dependencies, and whether the reply is for one
client only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, TypeVar

import msgspec

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.errors import ContractError
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply, joined

T = TypeVar("T")
BLAMED: Final = "plugin/"
"""The prefix of the note in an exception that names the plugin whose code raised it."""


class PluginContext:
    """A plugin of a chain, and the rules for the cache scope of its replies.

    If the plugin reads the client's address, the reply gets the scope `address_scope`. If `states_reuse` is true, the
    plugin sets the scope of each reply itself.
    """

    __slots__ = ("address_scope", "name", "states_reuse")

    def __init__(self, name: str, address_scope: CacheScope, *, states_reuse: bool = False) -> None:
        self.name, self.address_scope, self.states_reuse = name, address_scope, states_reuse

    def begin(self) -> Invocation:
        """Begins to record what the plugin reads for the query that it handles now."""
        invocation = running.current = Invocation(self)
        return invocation

    def as_invocation(self) -> Invocation:
        """Returns a new invocation of the plugin."""
        return Invocation(self)

    def read(self, scope: CacheScope) -> None:
        """Limits the plugin's reply to the clients in `scope`, because of data that the plugin read."""
        if not self.states_reuse:
            self.begin().read(scope)


class _Outside(PluginContext):
    """The context of code that runs outside of every plugin call, such as timers and tasks.

    For such code, it is unknown for which query data are read. After such a read, all replies that are being made are
    for their own clients only.
    """

    __slots__ = ()

    def begin(self) -> Invocation:
        return Invocation(self)

    def read(self, scope: CacheScope) -> None:  # noqa: ARG002 - no reply is being made
        running.outside += 1


class Invocation:
    """One call of a plugin for one query, and the data that the plugin read for this query."""

    __slots__ = ("asked", "context", "dependencies", "followed", "outside", "scope")

    def __init__(self, context: PluginContext) -> None:
        self.context, self.scope, self.outside = context, CacheScope.SHARED, running.outside
        self.asked: list[Reply] = []
        self.dependencies: list[Dependency] = []
        self.followed: list[Awaitable[Reply] | Reply] = []
        """All answers but the last one that the plugin got from the rest of the chain, if it asked more than once."""

    @property
    def name(self) -> str:
        """Returns the name of the plugin."""
        return self.context.name

    @property
    def states_reuse(self) -> bool:
        """Returns True if the plugin itself sets which clients may get its replies again (see `PluginContext`)."""
        return self.context.states_reuse

    @property
    def address_scope(self) -> CacheScope:
        """Returns the clients that may get a reply again for which the plugin read the client's address."""
        return self.context.address_scope

    def begin(self) -> Invocation:
        """Returns this object, because it records what the plugin reads in this call."""
        return self

    def as_invocation(self) -> Invocation:
        """Returns this object."""
        return self

    def read(self, scope: CacheScope) -> None:
        """Limits the plugin's reply to the clients in `scope`, because of data that the plugin read."""
        if scope > self.scope and not self.context.states_reuse:
            self.scope = scope

    def apply(self, reply: Reply) -> Reply:
        """Returns the plugin's reply, limited to the clients and the lifetime that follow from the data that the plugin
        read.
        """
        for source in self.followed:
            if isinstance(source, Reply) and source is not reply and not self.context.states_reuse:
                reply = carried(reply, source)
        for other in self.asked:
            reply = joined(reply, other)
        missing = [one for one in self.dependencies if one not in reply.dependencies]
        if missing or self.scope > reply.scope:
            scope = max(reply.scope, self.scope)
            reply = msgspec.structs.replace(reply, scope=scope, dependencies=(*reply.dependencies, *missing))
        return reply

    def apply_later(self, reply: Reply) -> Reply:
        """Limits a reply in the same way as `apply`, if it arrived after the plugin's call had returned.

        If code outside of every plugin call (see `_Outside`) has read data meanwhile, the reply is for this client
        only.
        """
        if self.outside != running.outside:
            self.read(CacheScope.CLIENT)
        return self.apply(reply)


Current = PluginContext | Invocation


class _Running:
    """The plugin whose code runs now in this process (`current`).

    `last` is the latest answer that the plugin got from the rest of the plugin chain, or NO_ANSWER. `outside` is the
    number of reads by code that runs outside of every plugin call.
    """

    __slots__ = ("current", "last", "outside")

    current: Current
    last: Awaitable[Reply] | Reply
    outside: int


class _NoAnswer:
    def __await__(self) -> Generator[Any, Any, Reply]:
        raise AssertionError("nobody waits for this")


running: Final = _Running()
NO_ANSWER: Final[Awaitable[Reply] | Reply] = _NoAnswer()
OUTSIDE: Final = _Outside("", CacheScope.CLIENT)
CORE: Final = PluginContext("", CacheScope.SHARED, states_reuse=True)
"""The context of code whose reads do not affect a reply, such as hooks that are called after a reply was sent."""
running.current, running.last, running.outside = OUTSIDE, NO_ANSWER, 0


def apart(function: Callable[[], T]) -> Callable[[], T]:
    """Wraps a function that handles other queries, such as `poll_sockets`, so that a plugin may call it.

    Reads of the function are not recorded for the query that the plugin handles now.
    """

    def call() -> T:
        current, last = running.current, running.last
        running.current, running.last = OUTSIDE, NO_ANSWER
        try:
            return function()
        finally:
            running.current, running.last = current, last

    return call


def blame(error: BaseException, plugin: str) -> None:
    """Adds a note with the name of the plugin to its exception, unless the exception has such a note."""
    if plugin and not plugin_of(error):
        error.add_note(BLAMED + plugin)


def plugin_of(error: BaseException) -> str:
    """Returns the name of the plugin that raised an exception, or an empty text if it is not known."""
    notes: list[str] = getattr(error, "__notes__", [])
    return next((note.removeprefix(BLAMED) for note in notes if note.startswith(BLAMED)), "")


def no_reply(plugin: str, found: object) -> ContractError:
    """Returns the error for a plugin that returned `found` instead of a reply. The error names the plugin."""
    if found is None:
        shown, hint = "None", ": is a 'return' missing?"
    elif isinstance(found, Awaitable):
        shown, hint = "an awaitable", ": is an 'await' missing?"
    else:
        shown, hint = type(found).__name__, ""
    text = f"plugin/{plugin}: handle, or a function passed to 'then', returned {shown}"
    error = ContractError(f"{text}; a Reply was expected{hint}")
    blame(error, plugin)
    return error


def checked(found: object, plugin: str) -> Reply:
    """Returns `found`, the result of a plugin. Raises ContractError if it is not a reply."""
    if not isinstance(found, Reply):
        raise no_reply(plugin, found)
    return found


def carried(reply: Reply, source: Reply) -> Reply:
    """Returns a plugin's reply with the reuse terms of `source`, the reply of the following plugins."""
    if reply.dependencies is not source.dependencies or reply.lifetime > source.lifetime or reply.scope < source.scope:
        missing = tuple([one for one in source.dependencies if one not in reply.dependencies])
        lifetime = min(reply.lifetime, source.lifetime)
        if missing or lifetime < reply.lifetime or reply.scope < source.scope:
            dependencies, scope = reply.dependencies + missing, max(reply.scope, source.scope)
            reply = msgspec.structs.replace(reply, lifetime=lifetime, dependencies=dependencies, scope=scope)
    if source.next_second < reply.lifetime and _ttls(reply) != _ttls(source):
        # the TTLs of the reply do not count down with those of `source`: the reply expires when these go down
        reply = msgspec.structs.replace(reply, lifetime=source.next_second, next_second=UNTIL_CHANGED)
    return reply


def _ttls(reply: Reply) -> list[int]:
    return [record.ttl for record in (*reply.answer, *reply.authority, *reply.additional)]


_ENDED: Final = object()


class Within:
    """Wraps a coroutine of a plugin. `running.current` is the plugin while a step of the coroutine runs.

    Awaiting this object returns the coroutine's reply, with its reuse terms.
    """

    __slots__ = ("_coroutine", "_current", "_followed")

    def __init__(self, coroutine: Coroutine[Any, Any, Reply], current: Current, followed: list[Reply]) -> None:
        self._coroutine, self._current, self._followed = coroutine, current, followed

    def __await__(self) -> Generator[Any, Any, Reply]:
        error: BaseException | None = None
        value: Any = None
        while True:
            found, reply = self._step(value, error)
            if found is _ENDED:
                return self._finished(reply)
            try:
                value, error = (yield found), None
            except BaseException as raised:  # noqa: BLE001 - the coroutine gets every exception, also its cancellation
                error = raised

    def _step(self, value: Any, error: BaseException | None) -> tuple[Any, Any]:
        """Runs one step. Returns what the coroutine waits for, or _ENDED and the result of the coroutine."""
        current, last = running.current, running.last
        running.current, running.last = self._current, NO_ANSWER
        try:
            return (self._coroutine.send(value) if error is None else self._coroutine.throw(error)), None
        except StopIteration as end:
            return _ENDED, end.value
        except Exception as raised:
            blame(raised, self._current.name)
            raise
        finally:
            if isinstance(running.last, Reply):
                self._followed.append(running.last)
            self._current, running.current, running.last = running.current, current, last

    def _finished(self, found: object) -> Reply:
        reply = checked(found, self._current.name)
        if not self._current.states_reuse:
            for source in self._followed:
                if reply is not source:
                    reply = carried(reply, source)
        if isinstance(self._current, Invocation):
            reply = self._current.apply_later(reply)
        running.last = reply
        return reply
