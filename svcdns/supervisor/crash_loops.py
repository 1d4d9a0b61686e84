"""Counts the exits of children by reason, and finds children in a crash loop.

The supervisor sends the counts to the control process, which publishes them as metrics. The log has a line when a crash
loop begins, and one when it is over.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from svcdns.log_line import LogLine
from svcdns.process.channel import Message
from svcdns.supervisor.child import CRASH_LOOP_EXITS, STABLE_AFTER, Child


class Reason(StrEnum):
    """Why a child has ended.

    - EXIT: the child exited.
    - SIGNAL: a signal from another process ended the child.
    - UNRESPONSIVE: the supervisor killed the child.
    """

    EXIT = "exit"
    SIGNAL = "signal"
    UNRESPONSIVE = "silent"


class Exits:
    """Counts the unexpected exits of children since the start of the program."""

    def __init__(self, log: Callable[[str], None]) -> None:
        """`log` writes one line to the log."""
        self._log = log
        self.counts: dict[tuple[str, str], int] = {}
        self.loops: set[str] = set()

    def count(self, child: Child, code: int, now: float) -> None:
        """Counts an unexpected exit of a child. A negative `code` is the number of a signal.

        Call it after `child.exited`.
        """
        reason = Reason.UNRESPONSIVE if child.was_unresponsive else Reason.SIGNAL if code < 0 else Reason.EXIT
        key = (child.name, reason.value)
        self.counts[key] = self.counts.get(key, 0) + 1
        if child.early_exits >= CRASH_LOOP_EXITS:
            self.loops.add(child.name)
            wait = max(0.0, child.start_at - now)
            self._log(
                LogLine(
                    "[ERROR] a process is in a crash loop",
                    process=child.name, exits_soon_after_start=child.early_exits, next_start_seconds=round(wait, 1),
                )
            )  # fmt: skip

    def check_recovered(self, child: Child, now: float) -> bool:
        """Returns True when a child's crash loop is over, because the child has run for long enough.

        Returns True only once for each crash loop.
        """
        if child.name not in self.loops or not child.running or now - child.started <= STABLE_AFTER:
            return False
        self.loops.discard(child.name)
        self._log(LogLine("[INFO] a process is stable again: its crash loop is over", process=child.name))
        return True

    def restore(self, message: Message) -> None:
        """Replaces the counts and the crash loops. `message` is the result of an earlier `Exits.message`."""
        self.counts = {(name, reason): count for name, reason, count in message["counts"]}
        self.loops = set(message["loops"])

    def message(self) -> Message:
        """Returns all counts and crash loops as a message, for the control process and for the supervisor after an
        upgrade.
        """
        return {
            "op": "endings",
            "counts": [[*key, count] for key, count in self.counts.items()],
            "loops": sorted(self.loops),
        }
