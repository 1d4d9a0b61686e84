"""Giving memory back to the system that the C library keeps for later."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Gives back what is free: a walk over the heap. Nothing where the C library has no such call (glibc does, malloc_trim(3))."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
