"""A timer wheel: runs callbacks at about a given time. Made for very many timers that are nearly all cancelled.

Callbacks of about the same time are in one list, a slot. A callback runs up to one tick late, and never early. If a
callback raises an exception, the event loop's exception handler is called, and the other callbacks still run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from svcdns.eventloop.clock import Clock
from svcdns.eventloop.time_slice import TimeSlice

TICK: Final = 0.005
"""The span of time of one slot, in seconds."""
SLICE: Final = 0.00025
"""The seconds that callbacks may take in one iteration of the event loop."""

Callback = Callable[[], None]


class Slot:
    """The callbacks for one span of TICK seconds.

    `callbacks` has None for each callback that was cancelled or has run. `pending` is the number of other callbacks.
    """

    __slots__ = ("callbacks", "pending")

    def __init__(self) -> None:
        self.callbacks: list[Callback | None] = []
        self.pending = 0


Timer = tuple[Slot, int]
"""A slot, and the index of a callback in the slot."""


class TimerWheel:
    """Runs callbacks at given times on `clock`, for one event loop."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._slots: dict[int, Slot] = {}
        self._overdue: deque[Slot] = deque()
        """Slots whose time has come, and whose callbacks have not all run."""
        self._handle: asyncio.TimerHandle | None = None
        self._scheduled = 0
        """The number of the slot that `_handle` waits for."""

    def at(self, when: float, callback: Callback) -> Timer:
        """Schedules `callback` for the time `when` on the clock, and returns its timer."""
        number = int(when / TICK) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = Slot()
        if not slot.pending and (self._handle is None or number < self._scheduled):
            self._schedule(number)
        slot.pending += 1
        slot.callbacks.append(callback)
        return slot, len(slot.callbacks) - 1

    def stop(self) -> None:
        """Cancels all timers."""
        self._slots.clear()
        self._overdue.clear()
        self._schedule(None)

    def run_due(self) -> None:
        """Runs the callbacks whose time has come, for at most SLICE seconds.

        Later iterations of the loop run the rest.
        """
        now, loop = int(self.clock() / TICK), asyncio.get_running_loop()
        for number in sorted(number for number in self._slots if number <= now):
            self._overdue.append(self._slots.pop(number))
        slice_ = TimeSlice(SLICE)
        while self._overdue:
            callbacks = self._overdue[0].callbacks
            for index, callback in enumerate(callbacks):
                if callback is None:
                    continue
                callbacks[index] = None
                try:
                    callback()
                except Exception as error:  # noqa: BLE001 - a failed callback must not stop the others
                    loop.call_exception_handler({"message": "a timer callback failed", "exception": error})
                if slice_.is_over:
                    self._schedule(now)
                    return
            self._overdue.popleft()
        self._schedule(min((number for number, slot in self._slots.items() if slot.pending), default=None))

    def _schedule(self, number: int | None) -> None:
        """Schedules `run_due` for the time of the slot with this number. If `number` is None, cancels it."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if number is not None:
            self._scheduled = number
            wait = 0.0 if self._overdue else max(TICK, number * TICK - self.clock())
            self._handle = asyncio.get_running_loop().call_later(wait, self.run_due)


def cancel(timer: Timer) -> None:
    """Cancels a timer. Does nothing if its callback has run."""
    slot, index = timer
    if slot.callbacks[index] is not None:
        slot.callbacks[index] = None
        slot.pending -= 1
