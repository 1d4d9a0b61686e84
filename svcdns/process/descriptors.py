"""Descriptors of a worker: each TCP connection of a client takes one, and each query to an upstream.

The kernel's table of a process's descriptors grows by doubling. Where threads share the table, each step waits for all
processors (synchronize_rcu in Linux `fs/file.c`): about 15 ms in which nothing is answered, under the highest load. So
the table is grown once at the start, before there are threads.
"""

from __future__ import annotations

import os
import resource
from typing import Final

WANTED_LIMIT: Final = 65_536
"""The soft limit that a worker sets, where the hard one allows it."""
TABLE_SIZE: Final = 16_384
"""Descriptors that the table has room for from the start, 8 octets each: more than connections and
queries in flight.
"""


def raise_descriptor_limit() -> None:
    """Raises the soft limit, 1,024 on many machines, to WANTED_LIMIT or the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_LIMIT if hard == resource.RLIM_INFINITY else min(WANTED_LIMIT, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def grow_descriptor_table() -> None:
    """Has the kernel grow the table to its final size. To be called before the first thread starts."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    last = (TABLE_SIZE if soft == resource.RLIM_INFINITY else min(TABLE_SIZE, soft)) - 1
    made = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if made < last:
            os.close(os.dup2(made, last, inheritable=False))
    finally:
        os.close(made)
