"""A reply that is still to come, without a task for it: whoever waits is called in the very step in which it comes.

A future costs two turns of the event loop and a task for whoever awaits it; a forwarded query would pay for both.
Rules: one waiter; changes are applied in the order in which they were added, each as the plugin that added it; only the
first reply counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator

from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.reuse import NO_ANSWER, Current, Invocation, blame, carried, running

Change = Callable[[Reply], Reply]


class Deferred:
    """The reply to one query. Whoever makes the reply calls `set` once it is there; `then` and `take` are for whoever
    gets it.
    """

    __slots__ = ("_changes", "_error", "_failed", "_reply", "_take")

    def __init__(self) -> None:
        self._changes: list[tuple[Change, Current]] = []
        self._reply: Reply | None = None
        self._error: Exception | None = None
        self._take: Callable[[Reply], None] | None = None
        self._failed: Callable[[Exception], None] | None = None

    @property
    def settled(self) -> bool:
        """Whether the reply has come, or a change has failed."""
        return self._reply is not None or self._error is not None

    def set(self, reply: Reply) -> None:
        """The reply is there."""
        if not self.settled:
            self._settle(reply, self._changes)

    def then(self, change: Change, plugin: Current | None = None) -> None:
        """Has the reply changed before it is handed over: by `plugin`, the one whose code runs now if it is None."""
        added = (change, plugin or running.current)
        if self._reply is None:
            self._changes.append(added)
        else:
            self._settle(self._reply, [added])

    def take(self, take: Callable[[Reply], None], failed: Callable[[Exception], None]) -> None:
        """Calls `take` with the reply, or `failed` with what a change raised, as soon as it is there."""
        if self._reply is not None:
            take(self._reply)
        elif self._error is not None:
            failed(self._error)
        else:
            self._take, self._failed = take, failed

    def _settle(self, reply: Reply, changes: list[tuple[Change, Current]]) -> None:
        before = current = running.current
        last, running.last = running.last, NO_ANSWER
        try:
            for change, current in changes:
                running.current = current
                changed = change(reply)
                if changed is not reply and not current.states_reuse:
                    changed = carried(changed, reply)
                found = running.current
                reply = found.apply(changed) if found is not current and isinstance(found, Invocation) else changed
        except Exception as error:  # noqa: BLE001 - handed on to whoever waits
            blame(error, current.name)
            self._reply, self._error = None, error
            if self._failed is not None:
                self._failed(error)
            return
        finally:
            running.current, running.last = before, last
        self._reply = reply
        if self._take is not None:
            self._take(reply)

    def __await__(self) -> Generator[object, None, Reply]:
        """For who is a coroutine anyway."""
        if not self.settled:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def wake(_: object) -> None:
                if not future.done():
                    future.set_result(None)

            self.take(wake, wake)
            yield from future
        if self._error is not None:
            raise self._error
        assert self._reply is not None
        running.last = self._reply
        return self._reply
