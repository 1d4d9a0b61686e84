"""The clock that is passed in wherever time matters, so that a test can set it."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds on a monotonic clock."""

monotonic: Clock = time.monotonic
