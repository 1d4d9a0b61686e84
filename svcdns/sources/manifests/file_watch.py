"""Watches a set of folders and reports that something in them may have changed. It reads no file and does not know what
has changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

from watchfiles import awatch

# It logs every change of any file in the folders, which helps only its own developers.
logging.getLogger("watchfiles").setLevel(logging.WARNING)

STEP_MS: Final = 50
"""A change is reported after this time without another one: the several steps of an editor are one change."""

MAX_WAIT_MS: Final = 300
"""A change is reported after this time even if further ones come."""

Watch = Callable[[frozenset[str]], AsyncGenerator[None, None]]
"""For a set of folders: yields once when it watches their entries, and then after each change among them."""


async def folder_changes(folders: frozenset[str]) -> AsyncGenerator[None, None]:
    """The Watch of a real file system; folders below the given ones are not watched. Raises FileNotFoundError for a
    missing folder.

    Where the kernel cannot watch, mostly because its inotify instances are used up, the folders are polled three times
    a second instead.
    """
    try:
        changes, first = await _begin(folders, polling=None)
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError):  # watchfiles' error for a watcher that cannot be made is a RuntimeError
        changes, first = await _begin(folders, polling=True)
    async with aclosing(changes):
        try:
            yield
            await first
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        yield
        async for _ in changes:
            yield


async def _begin(
    folders: frozenset[str], *, polling: bool | None
) -> tuple[AsyncGenerator[Any, None], asyncio.Task[Any]]:
    """Changes of the folders, which are watched on return, and the task that waits for the first one. With `polling`
    None the system decides."""
    changes = awatch(
        *folders, watch_filter=None, debounce=MAX_WAIT_MS, step=STEP_MS, recursive=False, force_polling=polling
    )
    first = asyncio.ensure_future(_next(changes))
    # One step of the event loop registers the folders with the kernel; after it no change is missed.
    await asyncio.sleep(0)
    if first.done():
        first.result()
    return changes, first


async def _next(changes: AsyncGenerator[Any, None]) -> Any:
    return await anext(changes)
