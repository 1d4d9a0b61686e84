"""All children: control, one worker for each slot, the successor of one of them, and predecessors that still finish
their work.

Every worker holds the sockets of all slots. It reads those of its own slot. It also reads those of a slot whose worker
is down, stalls, or was restarted and does not know the cluster yet. Once the children drain, no slot is assigned any
more.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from svcdns.process import shared_memory
from svcdns.process.channel import ChannelBrokenError, ChannelClosedError, Message
from svcdns.process.shared_memory import State
from svcdns.supervisor.child import Child, pin_to_processor
from svcdns.supervisor.crash_loops import Exits
from svcdns.supervisor.sockets import Address, ListenError, Listening, Sockets

SOCKETS_PER_MESSAGE: Final = 200
HOLD: Final = 3.0
"""Seconds that queries wait in the sockets of a restarted worker where no other worker serves. After that it answers
what it can.
"""


class Children:
    """The children, their channels in a selector, and the sockets that the workers hold."""

    def __init__(
        self, selector: selectors.BaseSelector, log: Callable[[str], None], control_arguments: list[str], mapping: int
    ) -> None:
        """`log` writes a line. `mapping` is the descriptor of the shared mapping; control gets `control_arguments` as
        they are.
        """
        self._selector, self._log, self.control_arguments, self.mapping = selector, log, control_arguments, mapping
        self._regions = shared_memory.regions(mapping)
        self.pin = False
        self.control = self.new_control(shared_memory.control_region(0))
        self.workers: list[Child] = []
        self.successor: Child | None = None
        """The child that is to replace another one and is not ready yet."""
        self.predecessors: dict[Child, float] = {}
        """Children that have been replaced, and until when each may finish its work."""
        self.sockets = Sockets(log)
        self.exits = Exits(log)
        self.served = self.draining = False
        self.format = ""
        """The hand-over format of the running program, as control has told it."""
        self._assigned: dict[int, tuple[int, list[int]]] = {}
        """By slot: the process that was told last which slots to read, and these slots."""

    def new_control(self, number: int) -> Child:
        """A control process for this region, not started yet."""
        command = ["svcdns.control", *self.control_arguments]
        return Child("control", command, -1, number, self._regions[number], self.mapping)

    def new_worker(self, slot: int, number: int) -> Child:
        """A worker for this region, not started yet."""
        return Child(
            f"worker {slot}", ["svcdns.worker", "--slot", str(slot)], slot, number, self._regions[number], self.mapping
        )

    def __iter__(self) -> Iterator[Child]:
        """All of them."""
        yield self.control
        yield from self.workers
        if self.successor is not None:
            yield self.successor
        yield from tuple(self.predecessors)

    # -- starting and ending

    def start(self, child: Child) -> None:
        """Starts a child and sends it what it needs: control the feeds to all workers, a worker its sockets and its
        feed.

        A successor is not told to read its sockets, or to feed the workers, before it is ready.
        """
        more = []
        if child.slot < 0 and self.served:
            more = ["--beside"] if child is self.successor else ["--again"]
        child.start(time.monotonic(), *more)
        assert child.channel is not None
        self._selector.register(child.channel, selectors.EVENT_READ, child)
        if child.slot < 0:
            child.send(self.exits.message())
            if child is self.control:
                self.connect_all(child)
            return
        if self.pin:
            pin_to_processor(child.pid, child.slot)
        self._send_sockets([child], self.sockets.all, [])
        child.is_restart = self.served
        self.connect(child, self.control)

    def adopt(self, child: Child) -> None:
        """Takes over a child that runs already."""
        if child.channel is not None:
            self._selector.register(child.channel, selectors.EVENT_READ, child)

    def connect_all(self, control: Child) -> None:
        """Makes new feeds between control and all workers but predecessors."""
        for worker in self.workers:
            if worker.running:
                self.connect(worker, control)

    @staticmethod
    def connect(worker: Child, control: Child) -> None:
        """Makes a new feed between control and a worker."""
        if not control.running:
            return
        to_worker, to_control = socket.socketpair()
        worker.send({"op": "feed"}, [to_worker.fileno()])
        control.send({"op": "worker", "slot": worker.slot, "region": worker.number}, [to_control.fileno()])
        to_worker.close()
        to_control.close()

    def close_channel(self, child: Child) -> None:
        """Ends the channel to a child, which then ends itself."""
        if child.channel is not None:
            self._selector.unregister(child.channel)
            child.channel.close()
            child.channel = None

    def receive(self, child: Child) -> list[Message]:
        """The messages that have come from a child. Closes its channel at the end of it."""
        if child.channel is None:
            return []
        try:
            return child.channel.receive()
        except ChannelClosedError as error:
            if isinstance(error, ChannelBrokenError):
                self._log(f"[ERROR] the channel to {child.name} is closed: {error}")
            self.close_channel(child)
            return []

    def reaped(self, child: Child) -> None:
        """A child has been reaped; its `start_at` says when it is to be started again, if at all."""
        self.close_channel(child)
        child.exited(time.monotonic())
        self.predecessors.pop(child, None)

    def send_exits(self) -> None:
        """Tells control, and its successor, how children have ended so far."""
        for child in (self.control, self.successor):
            if child is not None and child.slot < 0:
                child.send(self.exits.message())

    # -- workers and their sockets

    def start_workers(self, count: int) -> None:
        """Starts workers until there are at least `count`."""
        while len(self.workers) < count:
            slot = len(self.workers)
            self.workers.append(self.new_worker(slot, shared_memory.worker_region(slot, 0)))
            self.start(self.workers[slot])

    def listen(self, addresses: list[Address]) -> str:
        """Listens at these addresses and no others. Returns the error text where that is impossible; nothing has
        changed then.
        """
        try:
            added, removed = self.sockets.change(addresses, max(1, len(self.workers)))
        except ListenError as error:
            return str(error)
        self._send_sockets([child for child in self if child.slot >= 0], added, removed)
        self.sockets.close(removed)
        self.served = True
        return ""

    @staticmethod
    def _send_sockets(workers: list[Child], added: list[Listening], removed: list[Listening]) -> None:
        gone = [one.id for one in removed]
        for worker in workers:
            for start in range(0, max(1, len(added)), SOCKETS_PER_MESSAGE):
                part = added[start : start + SOCKETS_PER_MESSAGE]
                message: dict[str, Any] = {"op": "sockets", "add": [one.fields() for one in part], "remove": gone}
                worker.send(message, [one.sock.fileno() for one in part])

    def assign_slots(self, now: float, awake_since: float) -> None:
        """Tells each worker which slots' sockets to read, where that has changed."""
        if self.draining:
            return
        serving = [slot for slot, worker in enumerate(self.workers) if worker.is_serving(now, awake_since)]
        cover = (
            {slot: serving[slot % len(serving)] for slot in range(len(self.workers)) if slot not in serving}
            if serving
            else {}
        )
        for slot, worker in enumerate(self.workers):
            own = [slot] if self._reads_own_slot(worker, now) else []
            assigned = worker.pid, own + [down for down, covering in cover.items() if covering == slot]
            if worker.running and assigned != self._assigned.get(slot):
                self._assigned[slot] = assigned
                worker.send({"op": "read", "slots": assigned[1]})

    @property
    def has_unassigned(self) -> bool:
        """Whether a running worker has not been told yet to read its own sockets."""
        return any(
            worker.running and slot not in self._assigned.get(slot, (0, []))[1]
            for slot, worker in enumerate(self.workers)
        )

    def _reads_own_slot(self, worker: Child, now: float) -> bool:
        """A restarted worker does not read until it knows the cluster. Its queries are covered, or
        wait for up to HOLD.
        """
        if not worker.is_restart or worker.state not in (State.STARTING, State.UNSYNCED):
            return True
        return now - worker.started > HOLD and not any(
            other.running and other.state == State.SERVING for other in self.workers
        )
