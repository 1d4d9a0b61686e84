"""The clock that is passed in wherever time matters, so that tests can turn it by hand."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds on a monotonic clock."""

monotonic: Clock = time.monotonic
