"""Rolling replacement of control and workers: each successor is ready before its predecessor stops.

Rules:

1. Only one child is replaced at a time.
2. A new control process lists the cluster before the old one exits.
3. A new worker receives the cluster, makes the replies that the old one has stored, and reads its slot's sockets.
   Then the old worker hands over its connections.
4. If a successor fails, it is started again after a growing delay, and the predecessor keeps serving.
5. A stop of the server ends the replacement.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from svcdns.log_line import LogLine
from svcdns.process.shared_memory import ENCRYPTED_SLOT, State, other_side
from svcdns.supervisor.child import Child
from svcdns.supervisor.children import Children

EXIT_TIMEOUT: Final = 5.0
"""Seconds in which a control process that has been replaced must exit."""
WARM_UP: Final = 2.0
"""Seconds in which both workers read the same sockets.

Meanwhile the successor's answer table fills, before the successor gets all queries.
"""
HAND_OVER_TIMEOUT: Final = 10.0
"""Seconds in which a worker that has been replaced must pass on its connections and answer the queries in flight."""


class RollingReplacement:
    """Replaces children by new processes, one child at a time."""

    def __init__(self, children: Children, log: Callable[[str], None]) -> None:
        """`log` writes one line to the log."""
        self._children, self._log = children, log
        self._queue: deque[Child] = deque()
        self._current: Child | None = None
        """The child that is being replaced; its successor is not ready yet."""
        self._reading, self._warm_at = False, 0.0
        self.in_progress = self._stopped = False

    def begin(self, children: Iterable[Child]) -> None:
        """Starts to replace these children, in order.

        A child that ends before its turn is skipped: the supervisor has started it again, with the new program.
        """
        self._queue.extend(children)
        self.in_progress = True

    def stop(self) -> None:
        """Stops replacing children. Kills a successor, unless it is a worker that answers queries already."""
        if self.in_progress:
            self._log("[INFO] the upgrade ends unfinished, because the server stops")
        self._queue.clear()
        self.in_progress, self._stopped = False, True
        successor = self._children.successor
        if successor is not None and not self._reading:
            successor.kill()

    def kill_overdue(self, now: float) -> None:
        """Kills the replaced children that have not ended in time."""
        for child, deadline in self._children.predecessors.items():
            if now > deadline:
                child.kill()

    def advance(self, now: float) -> bool:
        """Takes the next step of the replacement. Call it regularly.

        A step is the start of a successor, or its take-over when it is ready. Returns True once, when the last child
        has been replaced. Also kills replaced children that have not ended in time.
        """
        children = self._children
        self.kill_overdue(now)
        if children.successor is None and not children.predecessors:
            self._begin_next()
        elif children.successor is not None and children.successor.slot >= 0:
            self._advance_worker(children.successor, now)
        done = self.in_progress and not (self._queue or self._current or children.predecessors)
        self.in_progress = self.in_progress and not done
        return done

    def _begin_next(self) -> None:
        self._current = None
        while self._queue and self._current is None:
            child = self._queue.popleft()
            if child.adopted:  # otherwise the new program has started it again
                self._current = child
                number = other_side(child.number)
                new = (
                    self._children.new_control(number)
                    if child.slot < 0
                    else self._children.new_worker(child.slot, number)
                )
                self._children.successor = new
                self._reading, self._warm_at = False, 0.0
                if 0 <= child.slot != ENCRYPTED_SLOT:
                    child.send({"op": "note-keys"})
                self._children.start(new)

    def _advance_worker(self, new: Child, now: float) -> None:
        assert self._current is not None
        ready = (State.SYNCED, State.UNSYNCED) if self._current.state == State.SERVING_UNSYNCED else (State.SYNCED,)
        if not new.running:
            self._reading, self._warm_at = False, 0.0
        elif new.state in ready and new.slot == ENCRYPTED_SLOT:
            self._hand_over(self._current, new, now)
            new.send({"op": "read", "slots": [new.slot]})
        elif new.state in ready and not self._reading:
            self._reading = True
            _connect(new, "take-keys", self._current, "give-keys")
            new.send({"op": "read", "slots": [new.slot]})
        elif self._reading and new.state in (State.SERVING, State.SERVING_UNSYNCED):
            self._warm_at = self._warm_at or now + WARM_UP
            if now >= self._warm_at:
                self._hand_over(self._current, new, now)

    def _hand_over(self, old: Child, new: Child, now: float) -> None:
        self._promote()
        _connect(new, "take-over", old, "hand-over")
        self._children.predecessors[old] = now + HAND_OVER_TIMEOUT

    def control_is_ready(self, child: Child, now: float) -> None:
        """Handles the message `serving` of a control process.

        If this process is the successor, its predecessor gets the request to exit.
        """
        if child is self._children.successor and self._current is not None:
            old = self._current
            self._promote()
            old.send({"op": "exit"})
            self._children.predecessors[old] = now + EXIT_TIMEOUT

    def _promote(self) -> None:
        """Replaces the predecessor by the successor in the list of children."""
        children, new = self._children, self._children.successor
        assert new is not None
        children.successor = self._current = None
        if new.slot < 0:
            children.control = new
        elif new.slot == ENCRYPTED_SLOT:
            children.encrypted = new
        else:
            children.workers[new.slot] = new
        self._log(LogLine("[INFO] a process is replaced", process=new.name))

    def exited(self, child: Child) -> str | None:
        """Handles the end of a child. Call it after `Children.reaped`.

        Returns a text for the log line, or None if the child takes no part in a replacement.
        """
        children = self._children
        if child is children.successor:
            self._reading, self._warm_at = False, 0.0
            if child.slot < 0:
                children.connect_all(children.control)
            if self._stopped:
                children.successor = None
            return "starting it again, its predecessor goes on"
        if child is self._current and children.successor is not None:
            self._promote()
            return "its successor takes its place"
        return None


def _connect(new: Child, to_new: str, old: Child, to_old: str) -> None:
    """Sends each worker one end of a new pair of sockets, with the operation that the worker begins."""
    first, second = socket.socketpair()
    new.send({"op": to_new}, [first.fileno()])
    old.send({"op": to_old}, [second.fileno()])
    first.close()
    second.close()
