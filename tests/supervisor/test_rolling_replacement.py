"""Replacing children one after the other."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Iterator

import pytest

from svcdns.process import shared_memory
from svcdns.process.channel import Channel
from svcdns.process.shared_memory import State, control_region, worker_region
from svcdns.supervisor.child import Child
from svcdns.supervisor.children import Crew
from svcdns.supervisor.rolling_replacement import FAREWELL, HAND_OVER, WARM_UP, Replacing


class World:
    """A crew that was adopted, of control and two workers; processes only seem to run, and what they are told is kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The workers serve."""
        self.lines: list[str] = []
        self.started: list[tuple[str, int, tuple[str, ...]]] = []
        self.killed: list[Child] = []
        self._ends: dict[Child, Channel] = {}
        monkeypatch.setattr(Child, "start", lambda child, now, *more: self.start(child, now, *more))  # noqa: PLW0108 - it has to bind
        monkeypatch.setattr(Child, "kill", lambda child, _number=9: self.killed.append(child))
        self.selector = selectors.DefaultSelector()
        self.mapping = shared_memory.make()
        self.regions = shared_memory.regions(self.mapping)
        self.crew = Crew(self.selector, self.lines.append, [], self.mapping)
        self.crew.served = True
        self.crew.start(self.crew.control)
        self.crew.set_count(2)
        for worker in self.crew.workers:
            self.shows(worker, State.SERVING)
        for child in self.crew:
            child.adopted = True
        self.replacing = Replacing(self.crew, self.lines.append)
        self.told()
        self.started.clear()

    def start(self, child: Child, now: float, *more: str) -> None:
        """In the place of the real start."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        child.pid, child.started, child.channel, child.adopted = 1 << 30, now, Channel(ours), False
        if child in self._ends:
            self._ends[child].close()
        self._ends[child] = Channel(theirs)
        shared_memory.enter(self.regions[child.number], State.STARTING)
        self.started.append((child.name, child.number, more))

    def shows(self, child: Child, state: State) -> None:
        """What it writes into its region."""
        self.regions[child.number][8:16].cast("d")[0] = float(state)

    def told(self) -> list[tuple[str, int, str]]:
        """What everybody has been told since the last time: name, region, word."""
        out = []
        for child, channel in self._ends.items():
            while child.running and (messages := channel.receive()):
                for message in messages:
                    out.append((child.name, child.number, message["op"]))
                    for fd in message["fds"]:
                        os.close(fd)
        return out

    @property
    def successor(self) -> Child:
        """Who is about to replace another."""
        assert self.crew.successor is not None
        return self.crew.successor

    def end(self, child: Child) -> str | None:
        """It ends."""
        self.crew.buried(child)
        return self.replacing.ended(child)

    def close(self) -> None:
        """Ends it."""
        for child, channel in self._ends.items():
            channel.close()
            if child.channel is not None:
                child.channel.close()
        self.selector.close()
        os.close(self.mapping)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """One."""
    made = World(monkeypatch)
    yield made
    made.close()


OTHER_CONTROL, OTHER_WORKER = control_region(1), worker_region(0, 1)


def test_a_control_leaves_when_its_successor_serves(world: World) -> None:
    """The new one starts beside it in the other region, and has the workers once it has listed."""
    old = world.crew.control
    world.replacing.begin([old])
    assert not world.replacing.advance(10.0)
    assert world.started == [("control", OTHER_CONTROL, ("--beside",))]
    assert world.told() == [("control", OTHER_CONTROL, "endings")]
    world.crew.connect_all(world.successor)
    assert {op for name, _, op in world.told() if name != "control"} == {"feed"}
    world.replacing.serves(world.successor, 11.0)
    assert world.crew.control.number == OTHER_CONTROL
    assert world.told() == [("control", 0, "exit")]
    assert not world.replacing.advance(11.0 + FAREWELL)
    assert world.killed == []
    assert not world.replacing.advance(11.1 + FAREWELL)
    assert world.killed == [old]
    assert world.end(old) is None
    assert world.replacing.advance(20.0)
    assert not world.replacing.going_on
    assert world.lines == ["[INFO] control is replaced"]


def test_a_worker_leaves_when_its_successor_reads(world: World) -> None:
    """It is told to read once it is synced, and the old one to hand over once it reads."""
    old = world.crew.workers[0]
    world.replacing.begin([old])
    world.replacing.advance(10.0)
    new = world.successor
    assert new.number == OTHER_WORKER
    assert ("worker 0", OTHER_WORKER, "read") not in world.told()
    world.shows(new, State.UNSYNCED)
    world.replacing.advance(11.0)
    assert world.told() == []
    world.shows(new, State.SYNCED)
    for _ in range(2):
        world.replacing.advance(12.0)
    assert world.told() == [("worker 0", OTHER_WORKER, "read")]
    world.shows(new, State.SERVING)
    world.replacing.advance(13.0)
    world.replacing.advance(12.9 + WARM_UP)
    assert world.told() == []
    world.replacing.advance(13.0 + WARM_UP)
    assert world.crew.workers[0] is new
    assert sorted(world.told()) == [("worker 0", worker_region(0, 0), "hand-over"), ("worker 0", OTHER_WORKER, "take-over")]
    world.replacing.advance(13.1 + WARM_UP + HAND_OVER)
    assert world.killed == [old]


def test_an_unsynced_worker_is_replaced_by_one_that_is_so_too(world: World) -> None:
    """While the cluster cannot be reached."""
    world.shows(world.crew.workers[0], State.SERVING_UNSYNCED)
    world.replacing.begin([world.crew.workers[0]])
    world.replacing.advance(10.0)
    world.shows(world.successor, State.UNSYNCED)
    world.replacing.advance(11.0)
    assert ("worker 0", OTHER_WORKER, "read") in world.told()


def test_one_after_the_other(world: World) -> None:
    """The next begins when the last one is gone; who was started again since needs nothing."""
    control, first, second = world.crew.control, *world.crew.workers
    world.replacing.begin([control, first, second])
    world.replacing.advance(10.0)
    world.replacing.serves(world.successor, 10.0)
    world.replacing.advance(10.1)
    assert world.crew.successor is None
    world.end(control)
    world.end(first)
    world.crew.start(first)
    world.replacing.advance(10.2)
    assert world.successor.name == "worker 1"


def test_a_successor_that_fails_is_started_again(world: World) -> None:
    """The old control has its workers back; a new worker is told to read anew."""
    world.replacing.begin([world.crew.control])
    world.replacing.advance(10.0)
    world.told()
    assert world.end(world.successor) == "trying again, the old one goes on"
    assert sorted(world.told()) == [
        ("control", 0, "worker"), ("control", 0, "worker"), ("worker 0", 1, "feed"), ("worker 1", 2, "feed"),
    ]  # fmt: skip
    world.crew.start(world.successor)
    assert world.started[-1] == ("control", OTHER_CONTROL, ("--beside",))


def test_where_the_old_one_ends_the_new_one_takes_its_place(world: World) -> None:
    """A worker reads at once, as soon as it can."""
    old = world.crew.workers[0]
    world.replacing.begin([old])
    world.replacing.advance(10.0)
    new = world.successor
    world.told()
    assert world.end(old) == "the new one takes its place"
    assert world.crew.workers[0] is new
    assert world.crew.successor is None
    world.shows(new, State.SYNCED)
    world.crew.settle_reading(10.1, 0.0)
    assert ("worker 0", OTHER_WORKER, "read") in world.told()
    assert world.replacing.advance(11.0)


def test_others_that_end_are_none_of_its_business(world: World) -> None:
    """They are started again as ever."""
    world.replacing.begin([world.crew.control])
    world.replacing.advance(10.0)
    assert world.end(world.crew.workers[1]) is None


def test_a_stop_gives_it_up(world: World) -> None:
    """A new control is not waited for."""
    world.replacing.begin(list(world.crew))
    world.replacing.advance(10.0)
    world.replacing.stop()
    assert world.killed == [world.successor]
