"""Tells when something in a set of folders may have changed. What it was is for the reader of the files to find out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

from watchfiles import awatch

# It reports every change of any file in the folders, which is for nobody but its own developers.
logging.getLogger("watchfiles").setLevel(logging.WARNING)

QUIET_MS: Final = 50
"""A change is told once nothing more has come for so long: an editor's several steps are one change."""

LONGEST_WAIT_MS: Final = 300
"""A change is told after so long even where changes keep coming."""

Watch = Callable[[frozenset[str]], AsyncGenerator[None, None]]
"""Given folders, yields once when it watches their entries, and from then on after each change among them."""


async def folder_changes(folders: frozenset[str]) -> AsyncGenerator[None, None]:
    """The Watch of a real file system; folders below the given ones are not watched. Raises FileNotFoundError for a missing folder.

    Where the kernel cannot watch, mostly because others have used up its inotify instances, the folders are looked at three
    times a second instead.
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


async def _begin(folders: frozenset[str], *, polling: bool | None) -> tuple[AsyncGenerator[Any, None], asyncio.Task[Any]]:
    """Changes of the folders, which are watched on return, and the task that waits for the first; `polling` None leaves it to the
    system."""
    changes = awatch(*folders, watch_filter=None, debounce=LONGEST_WAIT_MS, step=QUIET_MS, recursive=False, force_polling=polling)
    first = asyncio.ensure_future(_next(changes))
    # One step of the loop registers the folders with the kernel; from then on nothing is missed.
    await asyncio.sleep(0)
    if first.done():
        first.result()
    return changes, first


async def _next(changes: AsyncGenerator[Any, None]) -> Any:
    return await anext(changes)
