"""Memory of a process: returns free memory to the system, and pauses Python's garbage collector."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

FREE_STEP: Final = 100
"""The number of objects that `free_in_steps` frees in one step."""


class _Pauses:
    """Counts the blocks of `collector_paused` that run now."""

    lock = threading.Lock()
    count = 0


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pauses the garbage collector while the code of a `with` block makes very many objects.

    At the end, all objects that exist are excluded from later collections, with gc.freeze(). Reference cycles among
    these objects are never freed.
    """
    with _Pauses.lock:
        _Pauses.count += 1
        gc.disable()
    try:
        yield
    finally:
        with _Pauses.lock:
            _Pauses.count -= 1
            if not _Pauses.count:
                gc.freeze()
                gc.enable()


def free_in_steps(items: list[Any] | dict[Any, Any]) -> None:
    """Empties a list or a dict of many objects in steps, so that other threads can run between the steps."""
    if isinstance(items, dict):
        while items:
            items.popitem()
    while items:
        del items[-FREE_STEP:]


def release_free_memory() -> None:
    """Returns free memory to the system (malloc_trim(3)). Takes time for a large heap.

    Does nothing if the C library has no such function.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
