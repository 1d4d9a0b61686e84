"""The priority of the control process on a processor that it shares with workers.

Rules:

1. Queries come first: control has a low priority, so that a query interrupts it.
2. But a single change of the cluster, which is 0.1 ms of work, takes several times as long if queries interrupt
   control. With time slices as short as those of a worker, the kernel lets control finish short work after a pause
   (Linux 6.12 and later).
3. Queries wait during such work. So control has short slices only as long as its changes take little time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import perf_counter
from typing import Final

from svcdns.process.scheduling import SLICE_NANOSECONDS, USUAL_SLICE, request_slices

NICE: Final = 15
"""The nice value of control. On a processor shared with workers, queries cannot wait, but changes of the cluster can.

During a first start control keeps the usual value, because there are no queries yet, and a start must be quick.
"""
BUDGET: Final = 0.005
"""The seconds for which changes may take precedence over queries at first, and after a pause."""
SHARE: Final = 0.0025
"""The share of the time that is added to the budget."""


class Priority:
    """Sets the priority and the time slices of this process."""

    def __init__(
        self, request: Callable[[int], bool] = request_slices, clock: Callable[[], float] = perf_counter
    ) -> None:
        """`request` requests time slices of some nanoseconds from the kernel. `clock` returns seconds."""
        self._request, self._clock = request, clock
        self._left, self._at = BUDGET, clock()
        self._short = self._lowered = False

    def lower(self) -> None:
        """Lowers the priority. Call it before workers begin to answer queries."""
        os.nice(NICE)
        self._lowered, self._left = True, BUDGET
        self._set(short=True)

    def worked(self, seconds: float) -> None:
        """Deducts `seconds`, the time of a change, from the budget of time with short time slices.

        Requests the kernel's usual time slices when the budget is used up, and short ones when half of it is back.
        """
        now = self._clock()
        left = min(BUDGET, self._left + (now - self._at) * SHARE) - seconds
        self._left, self._at = max(0.0, left), now
        if self._short != (left > (0.0 if self._short else BUDGET / 2)):
            self._set(short=not self._short)

    def _set(self, *, short: bool) -> None:
        self._short = short
        if self._lowered:
            self._request(SLICE_NANOSECONDS if short else USUAL_SLICE)
