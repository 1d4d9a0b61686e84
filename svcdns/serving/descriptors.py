"""How many descriptors a worker may have open: each client over TCP is one, and each question to an upstream."""

from __future__ import annotations

import resource
from typing import Final

DESCRIPTORS: Final = 65_536
"""As many as a worker asks for."""


def allow_descriptors() -> None:
    """Raises the soft limit, 1,024 on many machines, as far as the hard one allows and it is needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
