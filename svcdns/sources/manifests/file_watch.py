"""Watches folders, and reports that something in them may have changed. No file is read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from importlib import import_module
from typing import Any, Final

from watchfiles import awatch

from svcdns.process.blocking_io import start

# watchfiles logs every change of any file in the folders.
logging.getLogger("watchfiles").setLevel(logging.WARNING)

STEP_MS: Final = 50
"""Milliseconds without a further change after which a change is reported: an editor saves in several steps."""

MAX_WAIT_MS: Final = 300
"""Milliseconds after which a change is reported even if further changes follow."""

ASYNCIO_PART: Final = "anyio._backends._asyncio"
"""The part of watchfiles' dependencies for asyncio. It is imported in a thread, because that takes 10 ms."""

Watch = Callable[[frozenset[str]], AsyncGenerator[None, None]]
"""A function that watches a set of folders: yields once when the watch has started, then after each change."""


async def folder_changes(folders: frozenset[str]) -> AsyncGenerator[None, None]:
    """Yields whenever something in one of these folders may have changed. Raises FileNotFoundError.

    Folders inside them are not watched. If the kernel cannot watch, the folders are polled three times a second.
    """
    await start(import_module, ASYNCIO_PART)
    try:
        changes, first = await _begin(folders, polling=None)
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError):  # watchfiles raises RuntimeError if it cannot watch
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
    """Starts to watch folders.

    Returns an iterator that yields at each change, and the task that waits for the first change. If `polling` is None,
    the library watchfiles decides whether to poll.
    """
    changes = awatch(
        *folders, watch_filter=None, debounce=MAX_WAIT_MS, step=STEP_MS, recursive=False, force_polling=polling
    )
    first = asyncio.ensure_future(_next(changes))
    # After one step of the event loop the kernel watches the folders, so that no change is missed.
    await asyncio.sleep(0)
    if first.done():
        first.result()
    return changes, first


async def _next(changes: AsyncGenerator[Any, None]) -> Any:
    return await anext(changes)
