"""The type of clocks. A clock is passed as an argument wherever time matters, so that a test can set the time."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns the seconds of a monotonic clock."""

monotonic: Clock = time.monotonic
