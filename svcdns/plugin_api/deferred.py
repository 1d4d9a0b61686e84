"""`Deferred`: a reply that arrives later. The receiver is called in the same step in which the reply arrives.

An asyncio future in its place would cost two iterations of the event loop. Rules:

1. Each reply has one receiver.
2. Changes are applied in the order in which they were added, each in the context of the plugin that added it.
3. If `set` is called more than once, only the first reply is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator

from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.reuse import NO_ANSWER, Current, Invocation, blame, carried, checked, running

Change = Callable[[Reply], Reply]


class Deferred:
    """The future reply to one query. The sender calls `set` when the reply has arrived.

    The receiver calls `then` to change the reply, and `take` to get it.
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
        """Returns True if the reply has arrived, or a change has failed."""
        return self._reply is not None or self._error is not None

    def set(self, reply: Reply) -> None:
        """Sets the reply. Has no effect if a reply was set before."""
        if not self.settled:
            self._settle(reply, self._changes)

    def then(self, change: Change, plugin: Current | None = None) -> None:
        """Adds a change that is applied to the reply before the receiver gets it.

        `plugin` is the plugin that makes the change. None means the plugin whose code runs now.
        """
        added = (change, plugin or running.current)
        if self._reply is None:
            self._changes.append(added)
        else:
            self._settle(self._reply, [added])

    def take(self, take: Callable[[Reply], None], failed: Callable[[Exception], None]) -> None:
        """Calls `take` with the reply when it has arrived.

        If a change to the reply raised an exception, calls `failed` with the exception instead.
        """
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
                    changed = carried(checked(changed, current.name), reply)
                found = running.current
                reply = found.apply(changed) if found is not current and isinstance(found, Invocation) else changed
        except Exception as error:  # noqa: BLE001 - passed to the receiver
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
        """Lets a coroutine await the reply."""
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
