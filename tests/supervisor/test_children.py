"""The children as a whole: who reads which sockets."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Iterator

import pytest

from svcdns.process import shared_memory
from svcdns.process.channel import Channel, Message
from svcdns.process.shared_memory import State, worker_region
from svcdns.supervisor.child import STALL
from svcdns.supervisor.children import HOLD, Crew


class World:
    """A crew of workers that only seem to run; what they are told is kept."""

    def __init__(self, count: int) -> None:
        """All serve, and beat at 100.0."""
        self.selector = selectors.DefaultSelector()
        self.mapping = shared_memory.make()
        self.regions = shared_memory.regions(self.mapping)
        self.crew = Crew(self.selector, lambda _line: None, [], self.mapping)
        self.theirs: list[Channel] = []
        for slot in range(count):
            worker = self.crew.new_worker(slot, worker_region(slot, 0))
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            worker.pid, worker.channel = 1 << 30, Channel(ours)
            self.theirs.append(Channel(theirs))
            self.crew.workers.append(worker)
            self.shows(slot, 100.0, State.SERVING)
        self.settle(100.0)

    def start_anew(self, slot: int, now: float) -> None:
        """Another process has that slot, and has not even begun."""
        worker = self.crew.workers[slot]
        worker.pid, worker.anew, worker.started = worker.pid + 1 or 1 << 29, True, now
        self.shows(slot, now, State.STARTING)

    def shows(self, slot: int, beat: float, state: State) -> None:
        """What a worker writes into its region."""
        cells = self.regions[worker_region(slot, 0)][0:16].cast("d")
        cells[0], cells[1] = beat, float(state)

    def told(self, slot: int) -> list[Message]:
        """What a worker has been told since the last time: the slots to read."""
        return [message["slots"] for message in self.theirs[slot].receive()]

    def settle(self, now: float, awake_since: float = 0.0) -> list[list[Message]]:
        """What each worker is told at a tick."""
        self.crew.settle_reading(now, awake_since)
        return [self.told(slot) for slot in range(len(self.theirs))]

    def close(self) -> None:
        """Ends it."""
        for channel in (*self.theirs, *(worker.channel for worker in self.crew.workers)):
            if channel is not None:
                channel.close()
        self.selector.close()
        os.close(self.mapping)


@pytest.fixture
def world() -> Iterator[World]:
    """Two workers."""
    made = World(2)
    yield made
    made.close()


def test_nothing_is_said_while_all_is_well(world: World) -> None:
    """Tick after tick."""
    assert world.settle(100.1) == [[], []]


def test_a_worker_that_stalls_is_covered_until_it_beats_again(world: World) -> None:
    """Long before it counts as silent; no longer than needed."""
    world.shows(1, 100.0 + STALL, State.SERVING)
    assert world.settle(100.1 + STALL) == [[], [[1, 0]]]
    assert world.settle(100.2 + STALL) == [[], []]
    world.shows(0, 100.3 + STALL, State.SERVING)
    assert world.settle(100.3 + STALL) == [[], [[1]]]


def test_a_worker_that_is_down_is_covered_until_it_serves(world: World) -> None:
    """A new process in its place reads nothing before it knows the cluster."""
    world.crew.workers[0].pid = 0
    assert world.settle(100.1) == [[], [[1, 0]]]
    world.start_anew(0, 100.2)
    assert world.settle(100.2) == [[[]], []]
    assert world.crew.unsettled
    world.shows(0, 150.0, State.UNSYNCED)
    world.shows(1, 150.0, State.SERVING)
    assert world.settle(150.0) == [[], []]
    world.shows(0, 150.1, State.SYNCED)
    assert world.settle(150.1) == [[[0]], []]
    assert not world.crew.unsettled
    world.shows(0, 150.2, State.SERVING)
    assert world.settle(150.2) == [[], [[1]]]


@pytest.mark.parametrize("state", [State.STARTING, State.UNSYNCED], ids=lambda state: state.name.lower())
def test_where_nobody_else_serves_questions_wait_a_while(world: World, state: State) -> None:
    """Then a worker that does not know the cluster answers what it can."""
    world.crew.workers[1].pid = 0
    world.start_anew(0, 100.2)
    world.shows(0, 100.2, state)
    assert world.settle(100.2 + HOLD) == [[[]], []]
    assert world.settle(100.3 + HOLD) == [[[0]], []]


def test_at_a_start_all_read_at_once(world: World) -> None:
    """Before the server serves there is nothing to wait for that control has not waited for."""
    world.start_anew(0, 100.2)
    world.crew.workers[0].anew = False
    assert world.settle(100.2) == [[[0]], [[1, 0]]]


def test_nobody_covers_where_nobody_serves(world: World) -> None:
    """Nothing is said; whoever comes back first reads all."""
    for slot in (0, 1):
        world.shows(slot, 50.0, State.SERVING)
    assert world.settle(100.0) == [[], []]
    world.shows(0, 100.0, State.SERVING)
    assert world.settle(100.1) == [[[0, 1]], []]


def test_time_in_which_the_supervisor_stood_still_does_not_count(world: World) -> None:
    """All look stalled then."""
    assert world.settle(200.0, awake_since=199.9) == [[], []]


def test_who_drains_is_told_to_read_nothing(world: World) -> None:
    """A stop goes its own way."""
    world.crew.draining = True
    world.crew.workers[0].pid = 0
    assert world.settle(100.1) == [[], []]
