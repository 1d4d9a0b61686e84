"""When the Corefile was loaded, and why it could not be loaded again."""

from __future__ import annotations

import time
from collections.abc import Callable


class ReloadLog:
    """The last load of the Corefile, and the last load that failed."""

    __slots__ = ("_now", "error", "failed_at", "loaded_at")

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """`now` returns Unix seconds."""
        self._now = now
        self.loaded_at = 0.0
        """The time at which the Corefile in use took effect, in Unix seconds; 0 before the first one."""
        self.failed_at = 0.0
        """The time of the last failure, in Unix seconds; 0 without a failure."""
        self.error = ""
        """The reason of the last failure, or an empty text."""

    def loaded(self) -> None:
        """Notes that a Corefile has taken effect."""
        self.loaded_at = self._now()

    def failed(self, error: str) -> None:
        """Notes that a Corefile could not be loaded."""
        self.failed_at, self.error = self._now(), error
