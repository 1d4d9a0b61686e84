"""Keeps stores to shared memory in order, also on CPUs that let stores change places (those of the ARM family)."""

from __future__ import annotations

import threading
from typing import Final

_LOCK: Final = threading.Lock()
_acquire, _release = _LOCK.acquire, _LOCK.release


def order_stores() -> None:
    """Lets other CPUs see all earlier stores before all later ones.

    On ARM, one use of a lock is not enough: an earlier and a later store may both move between the acquisition and
    the release, and change places there. No store passes both a release and the acquisition that follows.
    """
    _acquire()
    _release()
    _acquire()
    _release()
