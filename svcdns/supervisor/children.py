"""The children as a whole: control, a worker for each slot, and whoever is about to replace one of them or has just been replaced.

Every worker holds the sockets of all slots and reads those of its own slot, and of any whose worker is down, stalls, or was started anew
and does not know the cluster yet. While the children are told to drain, nobody reads anything more."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from svcdns.process import shared_memory
from svcdns.process.channel import ChannelBrokenError, ChannelClosedError, Message
from svcdns.process.shared_memory import State
from svcdns.supervisor.child import Child, keep_on_processor
from svcdns.supervisor.crash_loops import Endings
from svcdns.supervisor.sockets import Address, ListenError, Listening, Sockets

AT_ONCE: Final = 200
"""Sockets that one message carries."""
HOLD: Final = 3.0
"""Seconds that questions wait in the sockets for a worker that was started anew, where no other serves; it then answers what it can."""


class Crew:
    """All children, their channels in a selector, and the sockets that they hold."""

    def __init__(self, selector: selectors.BaseSelector, note: Callable[[str], None], control_arguments: list[str], mapping: int) -> None:
        """`note` takes a log line; `mapping` is the shared mapping's descriptor, `control_arguments` are given to control as they are."""
        self._selector, self._note, self.control_arguments, self.mapping = selector, note, control_arguments, mapping
        self._regions = shared_memory.regions(mapping)
        self.pin = False
        self.control = self.new_control(shared_memory.control_region(0))
        self.workers: list[Child] = []
        self.successor: Child | None = None
        """Who is about to replace one of those, and is not ready yet."""
        self.leaving: dict[Child, float] = {}
        """Who has been replaced, and until when it may finish what it has in hand."""
        self.sockets = Sockets(note)
        self.endings = Endings(note)
        self.served = self.draining = False
        self.format = ""
        """The hand-over that the program in use understands, as control says."""
        self._reading: dict[int, tuple[int, list[int]]] = {}
        """By slot: which process was told last what slots to read."""

    def new_control(self, number: int) -> Child:
        """A control process that has not been started, for this region."""
        command = ["svcdns.control", *self.control_arguments]
        return Child("control", command, -1, number, self._regions[number], self.mapping)

    def new_worker(self, slot: int, number: int) -> Child:
        """A worker that has not been started, for this region."""
        return Child(f"worker {slot}", ["svcdns.worker", "--slot", str(slot)], slot, number, self._regions[number], self.mapping)

    def __iter__(self) -> Iterator[Child]:
        """Everybody."""
        yield self.control
        yield from self.workers
        if self.successor is not None:
            yield self.successor
        yield from tuple(self.leaving)

    # -- starting and ending

    def start(self, child: Child) -> None:
        """Starts a process and hands it what it needs: control the feeds of all workers, a worker its sockets and its feed.

        One that is to replace another is told to read nothing, or to take no worker over, before it is ready.
        """
        more = []
        if child.slot < 0 and self.served:
            more = ["--beside"] if child is self.successor else ["--again"]
        child.start(time.monotonic(), *more)
        assert child.channel is not None
        self._selector.register(child.channel, selectors.EVENT_READ, child)
        if child.slot < 0:
            child.send(self.endings.message())
            if child is self.control:
                self.connect_all(child)
            return
        if self.pin:
            keep_on_processor(child.pid, child.slot)
        self._send_sockets([child], self.sockets.all, [])
        child.anew = self.served
        self.connect(child, self.control)

    def adopt(self, child: Child) -> None:
        """Takes a child over that runs already."""
        if child.channel is not None:
            self._selector.register(child.channel, selectors.EVENT_READ, child)

    def connect_all(self, control: Child) -> None:
        """Fresh feeds between control and all workers but those that leave."""
        for worker in self.workers:
            if worker.running:
                self.connect(worker, control)

    @staticmethod
    def connect(worker: Child, control: Child) -> None:
        """A fresh feed between control and a worker."""
        if not control.running:
            return
        to_worker, to_control = socket.socketpair()
        worker.send({"op": "feed"}, [to_worker.fileno()])
        control.send({"op": "worker", "slot": worker.slot, "region": worker.number}, [to_control.fileno()])
        to_worker.close()
        to_control.close()

    def forget_channel(self, child: Child) -> None:
        """Reads no more of what a child says."""
        if child.channel is not None:
            self._selector.unregister(child.channel)
            child.channel.close()
            child.channel = None

    def receive(self, child: Child) -> list[Message]:
        """What a child says; at its channel's end, that is forgotten."""
        if child.channel is None:
            return []
        try:
            return child.channel.receive()
        except ChannelClosedError as error:
            if isinstance(error, ChannelBrokenError):
                self._note(f"[ERROR] {child.name}: {error}")
            self.forget_channel(child)
            return []

    def buried(self, child: Child) -> None:
        """A child has been reaped; `start_at` says when it is to be started again, if at all."""
        self.forget_channel(child)
        child.died(time.monotonic())
        self.leaving.pop(child, None)

    def tell_endings(self) -> None:
        """Brings control up to date about how children ended."""
        for child in (self.control, self.successor):
            if child is not None and child.slot < 0:
                child.send(self.endings.message())

    # -- workers and their sockets

    def set_count(self, count: int) -> None:
        """Has so many workers at least."""
        while len(self.workers) < count:
            slot = len(self.workers)
            self.workers.append(self.new_worker(slot, shared_memory.worker_region(slot, 0)))
            self.start(self.workers[slot])

    def listen(self, addresses: list[Address]) -> str:
        """Listens at these addresses and no others; the error where that cannot be, and then nothing has changed."""
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
            for start in range(0, max(1, len(added)), AT_ONCE):
                part = added[start : start + AT_ONCE]
                message: dict[str, Any] = {"op": "sockets", "add": [one.described() for one in part], "remove": gone}
                worker.send(message, [one.sock.fileno() for one in part])

    def settle_reading(self, now: float, awake_since: float) -> None:
        """Says who reads which slots' sockets: each worker its own, and those that serve also those of workers that do not."""
        if self.draining:
            return
        well = [slot for slot, worker in enumerate(self.workers) if worker.serves(now, awake_since)]
        covered = {slot: well[slot % len(well)] for slot in range(len(self.workers)) if slot not in well} if well else {}
        for slot, worker in enumerate(self.workers):
            own = [slot] if self._reads_its_own(worker, now) else []
            told = worker.pid, own + [down for down, cover in covered.items() if cover == slot]
            if worker.running and told != self._reading.get(slot):
                self._reading[slot] = told
                worker.send({"op": "read", "slots": told[1]})

    @property
    def unsettled(self) -> bool:
        """Whether a worker that runs is not told yet to read its own sockets."""
        return any(worker.running and slot not in self._reading.get(slot, (0, []))[1] for slot, worker in enumerate(self.workers))

    def _reads_its_own(self, worker: Child, now: float) -> bool:
        """One that was started anew knows nothing yet: its questions are another's, or wait a while, until it knows the cluster."""
        if not worker.anew or worker.state not in (State.STARTING, State.UNSYNCED):
            return True
        return now - worker.started > HOLD and not any(other.running and other.state == State.SERVING for other in self.workers)
