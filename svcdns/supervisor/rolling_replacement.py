"""Replacing children that go on meanwhile, one after the other: a new one is ready before the old one leaves.

A new control lists the cluster beside the old one, takes the workers over, listens, and then the old one leaves. A new worker is told the
cluster, reads its slot's sockets together with the old one, and then that one hands over its connections and finishes what it has in hand.
A new one that fails is started again, more and more slowly, and the old one goes on; where an old one fails, the new one takes its place as
soon as it can. Never are two replaced at once, so no more is there twice than the largest of them."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from svcdns.process.shared_memory import State, other_side
from svcdns.supervisor.child import Child
from svcdns.supervisor.children import Crew

FAREWELL: Final = 5.0
"""Seconds that a control that has been replaced has to end."""
WARM_UP: Final = 2.0
"""Seconds in which old and new worker read the same sockets, so that the new one's table fills before all questions are its own."""
HAND_OVER: Final = 30.0
"""Seconds that a worker that has been replaced has to hand over its connections and finish what is in flight."""


class Replacing:
    """Works through a queue of children."""

    def __init__(self, crew: Crew, note: Callable[[str], None]) -> None:
        """`note` takes a log line."""
        self._crew, self._note = crew, note
        self._queue: deque[Child] = deque()
        self._old: Child | None = None
        self._reading, self._warm_at = False, 0.0
        self.going_on = False
        """Whether there is still something to be done."""

    def begin(self, children: Iterable[Child]) -> None:
        """Replaces these, in order, but for those that end before their turn and are started again."""
        self._queue.extend(children)
        self.going_on = True

    def stop(self) -> None:
        """Nothing more is replaced; what is under way is given up."""
        self._queue.clear()
        successor = self._crew.successor
        if successor is not None and successor.slot < 0:
            successor.kill()

    def advance(self, now: float) -> bool:
        """Does what can be done now; whether the last one has just been replaced."""
        crew = self._crew
        for child, deadline in crew.leaving.items():
            if now > deadline:
                child.kill()
        if crew.successor is None and not crew.leaving:
            self._begin_next()
        elif crew.successor is not None and crew.successor.slot >= 0:
            self._advance_worker(crew.successor, now)
        done = self.going_on and not (self._queue or self._old or crew.leaving)
        self.going_on = self.going_on and not done
        return done

    def _begin_next(self) -> None:
        self._old = None
        while self._queue and self._old is None:
            child = self._queue.popleft()
            if child.adopted:  # else it has been started again since, by the present program
                self._old = child
                number = other_side(child.number)
                new = self._crew.new_control(number) if child.slot < 0 else self._crew.new_worker(child.slot, number)
                self._crew.successor = new
                self._reading, self._warm_at = False, 0.0
                self._crew.start(new)

    def _advance_worker(self, new: Child, now: float) -> None:
        assert self._old is not None
        ready = (State.SYNCED, State.UNSYNCED) if self._old.state == State.SERVING_UNSYNCED else (State.SYNCED,)
        if not new.running:
            self._reading, self._warm_at = False, 0.0
        elif new.state in ready and not self._reading:
            self._reading = True
            new.send({"op": "read", "slots": [new.slot]})
        elif self._reading and new.state in (State.SERVING, State.SERVING_UNSYNCED):
            self._warm_at = self._warm_at or now + WARM_UP
            if now >= self._warm_at:
                self._hand_over(self._old, new, now)

    def _hand_over(self, old: Child, new: Child, now: float) -> None:
        to_old, to_new = socket.socketpair()
        self._promote()
        new.send({"op": "take-over"}, [to_new.fileno()])
        old.send({"op": "hand-over"}, [to_old.fileno()])
        to_old.close()
        to_new.close()
        self._crew.leaving[old] = now + HAND_OVER

    def serves(self, child: Child, now: float) -> None:
        """A control says that it has taken everything over: the old one may leave."""
        if child is self._crew.successor and self._old is not None:
            old = self._old
            self._promote()
            old.send({"op": "exit"})
            self._crew.leaving[old] = now + FAREWELL

    def _promote(self) -> None:
        """The successor takes the place of the old one."""
        crew, new = self._crew, self._crew.successor
        assert new is not None
        crew.successor = self._old = None
        if new.slot < 0:
            crew.control = new
        else:
            crew.workers[new.slot] = new
        self._note(f"[INFO] {new.name} is replaced")

    def ended(self, child: Child) -> str | None:
        """A child has ended: what follows from it, in words; None where it is nothing of ours. To be called after its burial."""
        crew = self._crew
        if child is crew.successor:
            self._reading, self._warm_at = False, 0.0
            if child.slot < 0:
                crew.connect_all(crew.control)
            return "trying again, the old one goes on"
        if child is self._old and crew.successor is not None:
            self._promote()
            return "the new one takes its place"
        return None
