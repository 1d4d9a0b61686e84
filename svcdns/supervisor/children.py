"""All children of the supervisor: the control process, the workers, and their successors.

A slot is the number of a worker, counted from 0. In a rolling replacement, a worker and its successor have the same
slot. Every worker holds the listening sockets of all slots, and reads those of its own slot. A worker also reads the
sockets of another slot if that worker is not running, stalls, or is not synced yet.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from svcdns.log_line import LogLine
from svcdns.process import shared_memory
from svcdns.process.channel import ChannelBrokenError, ChannelClosedError, Message
from svcdns.process.shared_memory import ENCRYPTED_SLOT, State
from svcdns.supervisor.child import Child, pin_to_processor
from svcdns.supervisor.crash_loops import Exits
from svcdns.supervisor.early_sockets import Address, EarlySocket, is_taken
from svcdns.supervisor.sockets import ListenError, Listening, Sockets

SOCKETS_PER_MESSAGE: Final = 200
DRAIN_TIMEOUT: Final = 5.5
"""Seconds in which workers must finish their last queries; then they are killed."""
HOLD: Final = 3.0
"""Seconds for which queries wait in the sockets of a restarted worker if no other worker serves.

After that the worker reads them even if its index is not synced.
"""


class Children:
    """All children, their channels in a selector, and the sockets that the workers hold."""

    def __init__(
        self, selector: selectors.BaseSelector, log: Callable[[str], None], control_arguments: list[str], mapping: int
    ) -> None:
        """`log` writes a line. `mapping` is the descriptor of the shared memory.

        `control_arguments` are the command-line arguments of the control process.
        """
        self._selector, self._log, self.control_arguments, self.mapping = selector, log, control_arguments, mapping
        self._regions = shared_memory.regions(mapping)
        self.pin = False
        self.control = self.new_control(shared_memory.control_region(0))
        self.workers: list[Child] = []
        self.encrypted: Child | None = None
        """The worker for encrypted transports; None if the Corefile has no such transport."""
        self.successor: Child | None = None
        """The child that will replace another one and is not ready yet."""
        self.predecessors: dict[Child, float] = {}
        """Children that have been replaced, with the time by which each must have ended (CLOCK_MONOTONIC)."""
        self.sockets = Sockets(log)
        self._unsent: list[Listening] = []
        """Sockets that were opened early and that the workers do not have yet. Queries wait in them."""
        self.exits = Exits(log)
        self.served = self.draining = False
        self.format = ""
        """The hand-over format of the running program, which control has sent."""
        self._assigned: dict[int, tuple[int, list[int]]] = {}
        """For each slot, the process that last got a list of slots to read, and the list."""

    def new_control(self, number: int) -> Child:
        """Returns a control process that is not started yet.

        `number` is the number of its region in the shared memory.
        """
        command = ["svcdns.control", *self.control_arguments]
        return Child("control", command, -1, number, self._regions[number], self.mapping)

    def new_worker(self, slot: int, number: int) -> Child:
        """Returns a worker for the slot `slot` that is not started yet.

        `number` is the number of its region in the shared memory.
        """
        name = "the worker for encrypted transports" if slot == ENCRYPTED_SLOT else f"worker {slot}"
        return Child(name, ["svcdns.worker", "--slot", str(slot)], slot, number, self._regions[number], self.mapping)

    def __iter__(self) -> Iterator[Child]:
        """Iterates over all children: the control process, the workers, and those that take part in a replacement."""
        yield self.control
        yield from self.all_workers
        if self.successor is not None:
            yield self.successor
        yield from tuple(self.predecessors)

    @property
    def all_workers(self) -> list[Child]:
        """Returns all workers, including the one for encrypted transports, without successors."""
        return [*self.workers, self.encrypted] if self.encrypted is not None else self.workers

    # -- starting and ending

    def start(self, child: Child) -> None:
        """Starts a child, and sends it what it needs.

        Control gets a connection to each worker. A worker gets its sockets and a connection to control. A successor
        gets its connections later, when it is ready.
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
        self._send_sockets([child], [one for one in self.sockets.all if one not in self._unsent], [])
        child.is_restart = self.served
        self.connect(child, self.control)

    def adopt(self, child: Child) -> None:
        """Registers the channel of a child that already runs."""
        if child.channel is not None:
            self._selector.register(child.channel, selectors.EVENT_READ, child)

    def connect_all(self, control: Child) -> None:
        """Connects `control` with each running worker by a new pair of sockets, except workers that have been
        replaced.
        """
        for worker in self.all_workers:
            if worker.running:
                self.connect(worker, control)

    @staticmethod
    def connect(worker: Child, control: Child) -> None:
        """Connects a control process and a worker: makes a pair of sockets, and sends each process its end."""
        if not control.running:
            return
        to_worker, to_control = socket.socketpair()
        worker.send({"op": "feed"}, [to_worker.fileno()])
        control.send({"op": "worker", "slot": worker.slot, "region": worker.number}, [to_control.fileno()])
        to_worker.close()
        to_control.close()

    def close_channel(self, child: Child) -> None:
        """Closes the channel to a child, which then exits."""
        if child.channel is not None:
            self._selector.unregister(child.channel)
            child.channel.close()
            child.channel = None

    def receive(self, child: Child) -> list[Message]:
        """Returns the messages that have arrived from a child.

        Closes the channel if the child has closed its end, or if the channel is broken.
        """
        if child.channel is None:
            return []
        try:
            return child.channel.receive()
        except ChannelClosedError as error:
            if isinstance(error, ChannelBrokenError):
                self._log(LogLine("[ERROR] the channel to a process is closed", process=child.name, error=error))
            self.close_channel(child)
            return []

    def reaped(self, child: Child) -> None:
        """Records that a child has ended and has been reaped. Sets the child's `start_at`."""
        self.close_channel(child)
        child.exited(time.monotonic())
        self.predecessors.pop(child, None)

    def send_exits(self) -> None:
        """Sends the numbers of child exits, by reason, to the control process and its successor."""
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

    def start_encrypted(self) -> None:
        """Starts the worker for encrypted transports, if it does not exist."""
        if self.encrypted is None:
            self.encrypted = self.new_worker(ENCRYPTED_SLOT, shared_memory.worker_region(ENCRYPTED_SLOT, 0))
            self.start(self.encrypted)

    def stop_encrypted(self) -> None:
        """Lets the worker for encrypted transports answer its last queries and exit, if it exists."""
        worker, self.encrypted = self.encrypted, None
        if worker is not None and worker.running:
            worker.send({"op": "drain"})
            self.predecessors[worker] = time.monotonic() + DRAIN_TIMEOUT

    def adopt_early(self, early: Sequence[EarlySocket]) -> None:
        """Takes over the sockets that were bound at the beginning of the start. Queries wait in these sockets."""
        self._unsent = self.sockets.adopt(early)

    def listen_early(self, addresses: list[Address]) -> None:
        """Listens on `addresses` at a start, before the workers can answer. Queries wait in these sockets.

        Does nothing if an address is in use by another program.
        """
        if not self.sockets.all and not any(map(is_taken, addresses)):
            with contextlib.suppress(ListenError):
                self._unsent, _ = self.sockets.change(addresses, 1)

    def listen(self, addresses: list[Address], encrypted: Sequence[Address] = ()) -> str:
        """Listens on `addresses`, and on no other addresses.

        `encrypted` has the addresses of the worker for encrypted transports.

        If that fails, returns an error text and changes nothing. Otherwise returns an empty text.
        """
        try:
            added, removed = self.sockets.change(addresses, max(1, len(self.workers)), encrypted)
        except ListenError as error:
            return str(error)
        early, self._unsent = self._unsent, []
        added = [one for one in early if one not in removed] + added
        known = [one for one in removed if one not in early]
        self._send_sockets([child for child in self if child.slot >= 0], added, known)
        self.sockets.close(removed)
        self.served = True
        return ""

    @staticmethod
    def _send_sockets(workers: list[Child], added: list[Listening], removed: list[Listening]) -> None:
        gone = [one.id for one in removed]
        for worker in workers:
            own = [one for one in added if (one.slot == ENCRYPTED_SLOT) == (worker.slot == ENCRYPTED_SLOT)]
            for start in range(0, max(1, len(own)), SOCKETS_PER_MESSAGE):
                part = own[start : start + SOCKETS_PER_MESSAGE]
                message: dict[str, Any] = {"op": "sockets", "add": [one.fields() for one in part], "remove": gone}
                worker.send(message, [one.sock.fileno() for one in part])

    def assign_slots(self, now: float, awake_since: float) -> None:
        """Sends each worker the numbers of the workers (slots) whose sockets it must read, if they have changed.

        `awake_since` is the time when the supervisor started, or went on after a pause.
        """
        if self.draining:
            return
        serving = [slot for slot, worker in enumerate(self.workers) if worker.is_serving(now, awake_since)]
        cover = (
            {slot: serving[slot % len(serving)] for slot in range(len(self.workers)) if slot not in serving}
            if serving
            else {}
        )
        for worker in self.all_workers:
            slot = worker.slot
            own = [slot] if self._reads_own_slot(worker, now) else []
            assigned = worker.pid, own + [down for down, covering in cover.items() if covering == slot]
            if worker.running and assigned != self._assigned.get(slot):
                self._assigned[slot] = assigned
                worker.send({"op": "read", "slots": assigned[1]})

    @property
    def has_unassigned(self) -> bool:
        """Returns True if a running worker does not read its own sockets yet."""
        return any(
            worker.running and worker.slot not in self._assigned.get(worker.slot, (0, []))[1]
            for worker in self.all_workers
        )

    def _reads_own_slot(self, worker: Child, now: float) -> bool:
        """Returns True if a worker must read its own sockets.

        A restarted worker must first be synced: it must have the whole cluster. If no other worker is synced, the
        restarted worker begins to read its sockets after HOLD seconds.
        """
        if not worker.is_restart or worker.state not in (State.STARTING, State.UNSYNCED):
            return True
        return now - worker.started > HOLD and not any(
            other.running and other.state == State.SERVING for other in self.workers
        )
