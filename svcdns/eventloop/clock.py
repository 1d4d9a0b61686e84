"""The type of clocks that are passed as arguments wherever time matters, so that a test can set the time."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns the seconds of a monotonic clock."""

monotonic: Clock = time.monotonic
