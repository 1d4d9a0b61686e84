"""Keeps the memory of the processes, which may have tokens and private keys, out of core files.

Both settings of `exclude_memory` pass to child processes. The limit stops core files; the kernel ignores the limit if
core dumps are piped to a program (core(5)). Then the filter leaves all memory out of the dump.
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
