"""How often children have ended and why, and which of them are in a crash loop.

The supervisor counts, as it alone outlives them all. It tells control, which shows the counts as metrics. The log has a
line when a crash loop begins and one when it is over.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from svcdns.process.channel import Message
from svcdns.supervisor.child import CRASH_LOOP_EXITS, STABLE_AFTER, Child


class Reason(StrEnum):
    """Why a child has ended: it exited, somebody else's signal ended it, or the supervisor killed it because it was
    unresponsive.
    """

    EXIT = "exit"
    SIGNAL = "signal"
    UNRESPONSIVE = "silent"


class Exits:
    """Counts since the start of the program."""

    def __init__(self, log: Callable[[str], None]) -> None:
        """`log` writes a line."""
        self._log = log
        self.counts: dict[tuple[str, str], int] = {}
        self.loops: set[str] = set()

    def count(self, child: Child, code: int, now: float) -> None:
        """A child has ended without having been told to, and `child.exited` has been called. A negative `code` is a
        signal.
        """
        reason = Reason.UNRESPONSIVE if child.was_unresponsive else Reason.SIGNAL if code < 0 else Reason.EXIT
        key = (child.name, reason.value)
        self.counts[key] = self.counts.get(key, 0) + 1
        if child.early_exits >= CRASH_LOOP_EXITS:
            self.loops.add(child.name)
            wait = max(0.0, child.start_at - now)
            self._log(
                f"[ERROR] {child.name} is in a crash loop: {child.early_exits} exits soon after the start, next start in {wait:.1f}s"
            )

    def check_recovered(self, child: Child, now: float) -> bool:
        """Whether the child's crash loop is over as of now, because the child has run for long enough."""
        if child.name not in self.loops or not child.running or now - child.started <= STABLE_AFTER:
            return False
        self.loops.discard(child.name)
        self._log(f"[INFO] {child.name} is stable again: its crash loop is over")
        return True

    def restore(self, message: Message) -> None:
        """Goes on from the counts of a `message`."""
        self.counts = {(name, reason): count for name, reason, count in message["counts"]}
        self.loops = set(message["loops"])

    def message(self) -> Message:
        """All counts and crash loops, for control and for a successor of this supervisor."""
        return {
            "op": "endings",
            "counts": [[*key, count] for key, count in self.counts.items()],
            "loops": sorted(self.loops),
        }
