"""Keeps the memory of the processes, which may have tokens and private keys, out of core files.

The size limit 0 stops core files. If core dumps are piped to a program, the kernel ignores this limit (core(5)): for
that case, the core-dump filter leaves all memory out. Child processes inherit both settings.
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final

_FILTER: Final = "/proc/self/coredump_filter"


def exclude_memory() -> None:
    """Sets the size of core files to 0, and leaves all memory out of core dumps."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    with contextlib.suppress(OSError), open(_FILTER, "w", encoding="ascii") as file:  # Linux with a writable /proc
        file.write("0")
