"""Keeps the memory of the processes, which may have tokens and private keys, out of core files.

There are two settings, and child processes inherit both. The size limit of 0 stops core files. But the kernel ignores
this limit if core dumps are piped to a program (core(5)). For that case, the core-dump filter of the process leaves all
memory out of the dump.
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final

_FILTER: Final = "/proc/self/coredump_filter"


def exclude_memory() -> None:
    """Sets the size of core files to 0, and leaves all memory out of core dumps. Keeps the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    with contextlib.suppress(OSError), open(_FILTER, "w", encoding="ascii") as file:  # Linux with a writable /proc
        file.write("0")
