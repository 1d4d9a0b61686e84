"""How many descriptors a worker may have open: each client over TCP is one, and each question to an upstream.

The kernel's table of a process's descriptors grows by doubling, and where threads share the table each time waits until all processors
have noticed (synchronize_rcu in Linux `fs/file.c`): some 15 ms in which nothing is answered, just when there is most to do. So it is grown
once at the start, before there are threads.
"""

from __future__ import annotations

import os
import resource
from typing import Final

DESCRIPTORS: Final = 65_536
"""As many as a worker asks for."""
AT_ONCE: Final = 16_384
"""As many as there is room for from the start, 8 octets each: more than connections and questions under way can be."""


def allow_descriptors() -> None:
    """Raises the soft limit, 1,024 on many machines, as far as the hard one allows and it is needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def make_room_for_descriptors() -> None:
    """Has the kernel make the table as large as it will have to be; to be called before the first thread is started."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    last = (AT_ONCE if soft == resource.RLIM_INFINITY else min(AT_ONCE, soft)) - 1
    made = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if made < last:
            os.close(os.dup2(made, last, inheritable=False))
    finally:
        os.close(made)
