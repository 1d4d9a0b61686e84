"""Calls at about a given time, for very many that hardly ever come to anything.

Each question to an upstream has to be looked at after a while, and nearly all of them are answered long before. A timer of the event
loop for each costs more than the look: here a call is put into the slot of its time, and stays there until that comes. Whoever is called
finds out itself whether there is still something to do. A call comes up to one tick late and never early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from svcdns.telemetry.clock import Clock

TICK: Final = 0.005
"""Seconds from one look at the slots to the next, while there are any."""

Call = Callable[[], None]


class Alarms:
    """The alarms of one event loop. `clock` may be turned by hand: the event loop's own time only says when to look at it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._slots: dict[int, list[Call]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def at(self, when: float, call: Call) -> None:
        """Calls once it is `when` on the clock."""
        slot = int(when / TICK) + 1
        calls = self._slots.get(slot)
        if calls is None:
            self._slots[slot] = [call]
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(TICK, self.look)
        else:
            calls.append(call)

    def stop(self) -> None:
        """Forgets all of them."""
        self._slots.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Calls whatever is due."""
        now, loop = int(self.clock() / TICK), asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        for slot in sorted(slot for slot in self._slots if slot <= now):
            for call in self._slots.pop(slot, ()):
                try:
                    call()
                except Exception as error:  # noqa: BLE001 - what one question runs into is no matter of the others
                    loop.call_exception_handler({"message": "an alarm has failed", "exception": error})
        self._timer = loop.call_later(TICK, self.look) if self._slots else None
