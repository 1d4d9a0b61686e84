"""How often children have ended and why, and which of them are in a crash loop: kept here, since the supervisor alone outlives them all.

Control is told of it whenever it changes, and shows it as metrics; the log is told where a crash loop begins and where it ends."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from svcdns.process.channel import Message
from svcdns.supervisor.child import LOOP, SETTLED, Child


class Reason(StrEnum):
    """Why a child has ended: of itself, by a signal that was not ours, or killed because it was silent."""

    EXIT = "exit"
    SIGNAL = "signal"
    SILENT = "silent"


class Endings:
    """Counts since the program's start."""

    def __init__(self, note: Callable[[str], None]) -> None:
        """`note` takes a log line."""
        self._note = note
        self.counts: dict[tuple[str, str], int] = {}
        self.loops: set[str] = set()

    def ended(self, child: Child, code: int, now: float) -> None:
        """A child has ended that was not told to, and `child.died` has been called; `code` is negative for a signal."""
        reason = Reason.SILENT if child.was_silent else Reason.SIGNAL if code < 0 else Reason.EXIT
        key = (child.name, reason.value)
        self.counts[key] = self.counts.get(key, 0) + 1
        if child.deaths >= LOOP:
            self.loops.add(child.name)
            wait = max(0.0, child.start_at - now)
            self._note(f"[ERROR] {child.name} ends again and again soon after its start: crash loop, next try in {wait:.1f}s")

    def look(self, child: Child, now: float) -> bool:
        """Whether the child's crash loop is over just now, because it has run for long enough."""
        if child.name not in self.loops or not child.running or now - child.started <= SETTLED:
            return False
        self.loops.discard(child.name)
        self._note(f"[INFO] {child.name} runs again: its crash loop is over")
        return True

    def restore(self, message: Message) -> None:
        """Goes on from what `message` gave."""
        self.counts = {(name, reason): count for name, reason, count in message["counts"]}
        self.loops = set(message["loops"])

    def message(self) -> Message:
        """What control is told: all of it."""
        return {"op": "endings", "counts": [[*key, count] for key, count in self.counts.items()], "loops": sorted(self.loops)}
