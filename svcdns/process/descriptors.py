"""Makes room for the file descriptors of a worker: one for each client's TCP connection and each query to an upstream.

The kernel's descriptor table grows by doubling, which takes about 15 ms in a process with threads. So the table is
grown once at the start, before there are threads.
"""

from __future__ import annotations

import os
import resource
from typing import Final

WANTED_LIMIT: Final = 65_536
"""The soft limit of descriptors that a worker sets, if the hard limit allows it."""
TABLE_SIZE: Final = 16_384
"""Descriptors for which the table has room from the start, 8 octets each.

That is more than the connections and the queries in flight of a worker.
"""


def raise_descriptor_limit() -> None:
    """Raises the soft limit for descriptors (often 1,024) to WANTED_LIMIT, or to the hard limit if that is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_LIMIT if hard == resource.RLIM_INFINITY else min(WANTED_LIMIT, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def grow_descriptor_table() -> None:
    """Makes the kernel grow the process's descriptor table to TABLE_SIZE.

    Call it before the first thread starts.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    last = (TABLE_SIZE if soft == resource.RLIM_INFINITY else min(TABLE_SIZE, soft)) - 1
    made = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if made < last:
            os.close(os.dup2(made, last, inheritable=False))
    finally:
        os.close(made)
