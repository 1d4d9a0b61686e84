"""Calls at about a given time, for very many that hardly ever come to anything.

Each question to an upstream has to be looked at after a while, and nearly all of them are answered long before. A timer of the event
loop for each costs more than the look: here a call is put into the slot of its time, and its place stays until that comes, empty if it was
called off. A call comes up to one tick late and never early.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Final

from svcdns.eventloop.clock import Clock

TICK: Final = 0.005
"""Seconds that a slot is wide."""
SLICE: Final = 0.00025
"""Seconds that calls take in one turn of the event loop."""

Call = Callable[[], None]


class Slot:
    """Calls of about the same time; those that were called off are None, `live` is how many are not."""

    __slots__ = ("calls", "live")

    def __init__(self) -> None:
        self.calls: list[Call | None] = []
        self.live = 0


Alarm = tuple[Slot, int]
"""The place of a call."""


class Alarms:
    """The alarms of one event loop. `clock` may be turned by hand: the event loop's own time only says when to look at it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._slots: dict[int, Slot] = {}
        self._overdue: deque[Slot] = deque()
        """Slots whose time has come, and whose calls have not all been made."""
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0
        """The slot that the timer is for."""

    def at(self, when: float, call: Call) -> Alarm:
        """Calls once it is `when` on the clock."""
        number = int(when / TICK) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = Slot()
        if not slot.live and (self._timer is None or number < self._due):
            self._look_for(number)
        slot.live += 1
        slot.calls.append(call)
        return slot, len(slot.calls) - 1

    def stop(self) -> None:
        """Forgets all of them."""
        self._slots.clear()
        self._overdue.clear()
        self._look_for(None)

    def look(self) -> None:
        """Calls whatever is due; where that takes long, bit by bit, with others having their turn in between."""
        now, loop = int(self.clock() / TICK), asyncio.get_running_loop()
        for number in sorted(number for number in self._slots if number <= now):
            self._overdue.append(self._slots.pop(number))
        ends = perf_counter() + SLICE
        while self._overdue:
            calls = self._overdue[0].calls
            for place, call in enumerate(calls):
                if call is None:
                    continue
                calls[place] = None
                try:
                    call()
                except Exception as error:  # noqa: BLE001 - what one question runs into is no matter of the others
                    loop.call_exception_handler({"message": "an alarm has failed", "exception": error})
                if perf_counter() > ends:
                    self._look_for(now)
                    return
            self._overdue.popleft()
        self._look_for(min((number for number, slot in self._slots.items() if slot.live), default=None))

    def _look_for(self, number: int | None) -> None:
        """Looks again when that slot is due, or not at all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if number is not None:
            self._due = number
            wait = 0.0 if self._overdue else max(TICK, number * TICK - self.clock())
            self._timer = asyncio.get_running_loop().call_later(wait, self.look)


def call_off(alarm: Alarm) -> None:
    """Takes a call back, if it has not come."""
    slot, place = alarm
    if slot.calls[place] is not None:
        slot.calls[place] = None
        slot.live -= 1
