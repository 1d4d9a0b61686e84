"""Runs file I/O outside the event loop, so that a mount that hangs (NFS, FUSE) cannot stop the loop.

Rules:

1. Each call has a daemon thread of its own. A blocked call delays no other call and no exit.
2. The caller may stop waiting. The thread then goes on, and its result is dropped.
3. A call waits until an earlier call with the same name has returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any, Final, TypeVar

from svcdns.errors import SvcdnsError
from svcdns.log_line import LogLine

WARN_AFTER: Final = 5.0
"""Seconds after which a call that has not returned is logged."""

T = TypeVar("T")


class BlockedError(SvcdnsError):
    """Raised if a call did not return in time. The text of the error names the call."""


class BlockingCalls:
    """Runs blocking functions in threads, and logs slow calls. Each call has a name."""

    def __init__(self, log: logging.Logger) -> None:
        """`log` gets a WARNING line for a call that takes longer than WARN_AFTER seconds, and an INFO line when it
        returns.
        """
        self._log = log
        self._running: dict[tuple[str, str], asyncio.Future[Any]] = {}

    async def run(self, what: str, function: Callable[..., T], *arguments: Any, limit: float = inf, key: str = "") -> T:
        """Returns `function(*arguments)`, called in a thread.

        `what` describes the files in log lines. Waits until an earlier call with the same `what` and `key` has
        returned. Raises the exceptions of the function, and BlockedError after `limit` seconds.
        """
        name = what, key
        while (earlier := self._running.get(name)) is not None and not earlier.done():
            await asyncio.wait([earlier], timeout=None if limit == inf else limit)
            if not earlier.done():
                raise BlockedError(f"{what}: still blocked")
        calling = start(function, *arguments)
        self._running[name] = calling
        calling.add_done_callback(partial(self._returned, name))
        await asyncio.wait([calling], timeout=min(WARN_AFTER, limit))
        if not calling.done():
            waited = min(WARN_AFTER, limit)
            self._log.warning(LogLine("file access is slow: still waiting", files=what, seconds=waited))
            calling.add_done_callback(lambda _: self._log.info(LogLine("file access is no longer blocked", files=what)))
            await asyncio.wait([calling], timeout=None if limit == inf else max(0.0, limit - WARN_AFTER))
            if not calling.done():
                raise BlockedError(f"{what}: not done within {limit:g} s")
        return calling.result()

    def _returned(self, name: tuple[str, str], calling: asyncio.Future[Any]) -> None:
        if self._running.get(name) is calling:
            del self._running[name]
        if not calling.cancelled():
            calling.exception()  # asyncio logs an exception that is never read, and the caller may have stopped waiting


def start(function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
    """Calls `function(*arguments)` in a daemon thread. Returns a future with the function's result or exception."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        try:
            settle = partial(_succeed, outcome, function(*arguments))
        except BaseException as error:  # noqa: BLE001  raised again where the result is awaited
            settle = partial(_fail, outcome, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nothing waits for the result
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=work, name=f"file: {getattr(function, '__qualname__', function)}", daemon=True).start()
    return outcome


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Returns `function(*arguments)`, called in a daemon thread.

    If the caller is cancelled, the thread goes on, and its result is dropped.
    """
    return await start(function, *arguments)


def _succeed(outcome: asyncio.Future[T], value: T) -> None:
    if not outcome.done():
        outcome.set_result(value)


def _fail(outcome: asyncio.Future[T], error: BaseException) -> None:
    if not outcome.done():
        outcome.set_exception(error)
