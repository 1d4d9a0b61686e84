"""Returns to the system the free memory that the C library keeps for later use."""

from __future__ import annotations

import ctypes


def release_free_memory() -> None:
    """Returns free memory to the system (malloc_trim(3)); this takes time, as it walks the heap.

    Does nothing if the C library has no such function.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
