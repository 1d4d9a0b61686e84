"""A reply that is still to come, without a task for it: whoever waits is called in the very step in which it comes.

A future costs two turns of the event loop and a task for whoever awaits it; a forwarded question would pay for both. Rules: one waiter;
changes are applied in the order in which they were put on; what comes twice counts once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator

from svcdns.plugin_api.reply import Reply

Change = Callable[[Reply], Reply]


class Deferred:
    """The reply to one question. Whoever makes it calls `set` once it is there; `then` and `take` are for whoever gets it."""

    __slots__ = ("_changes", "_error", "_failed", "_reply", "_take")

    def __init__(self) -> None:
        self._changes: list[Change] = []
        self._reply: Reply | None = None
        self._error: Exception | None = None
        self._take: Callable[[Reply], None] | None = None
        self._failed: Callable[[Exception], None] | None = None

    @property
    def settled(self) -> bool:
        """Whether it has come, or broken."""
        return self._reply is not None or self._error is not None

    def set(self, reply: Reply) -> None:
        """The reply is there."""
        if not self.settled:
            self._settle(reply, self._changes)

    def then(self, change: Change) -> None:
        """Has the reply changed before it is handed over."""
        if self._reply is None:
            self._changes.append(change)
        else:
            self._settle(self._reply, [change])

    def take(self, take: Callable[[Reply], None], failed: Callable[[Exception], None]) -> None:
        """Calls `take` with the reply, or `failed` with what a change raised, as soon as it is there."""
        if self._reply is not None:
            take(self._reply)
        elif self._error is not None:
            failed(self._error)
        else:
            self._take, self._failed = take, failed

    def _settle(self, reply: Reply, changes: list[Change]) -> None:
        try:
            for change in changes:
                reply = change(reply)
        except Exception as error:  # noqa: BLE001 - handed on to whoever waits
            self._reply, self._error = None, error
            if self._failed is not None:
                self._failed(error)
            return
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
        return self._reply
