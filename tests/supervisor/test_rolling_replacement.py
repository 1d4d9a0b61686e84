"""Rolling replacement of control and workers."""

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
from svcdns.supervisor.children import Children
from svcdns.supervisor.rolling_replacement import EXIT_TIMEOUT, HAND_OVER_TIMEOUT, WARM_UP, RollingReplacement


class World:
    """A supervisor with control and two workers, which are no real processes. The test reads the messages to them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Adopts control and two serving workers."""
        self.lines: list[str] = []
        self.started: list[tuple[str, int, tuple[str, ...]]] = []
        self.killed: list[Child] = []
        self._ends: dict[Child, Channel] = {}
        monkeypatch.setattr(Child, "start", lambda child, now, *more: self.start(child, now, *more))  # noqa: PLW0108 - it has to bind
        monkeypatch.setattr(Child, "kill", lambda child, _number=9: self.killed.append(child))
        self.selector = selectors.DefaultSelector()
        self.mapping = shared_memory.create()
        self.regions = shared_memory.regions(self.mapping)
        self.children = Children(self.selector, self.lines.append, [], self.mapping)
        self.children.served = True
        self.children.start(self.children.control)
        self.children.start_workers(2)
        for worker in self.children.workers:
            self.show(worker, State.SERVING)
        for child in self.children:
            child.adopted = True
        self.replacement = RollingReplacement(self.children, self.lines.append)
        self.sent()
        self.started.clear()

    def start(self, child: Child, now: float, *more: str) -> None:
        """Replaces `Child.start`: records the start, but starts no process."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        child.pid, child.started, child.channel, child.adopted = 1 << 30, now, Channel(ours), False
        if child in self._ends:
            self._ends[child].close()
        self._ends[child] = Channel(theirs)
        shared_memory.reset(self.regions[child.number], State.STARTING)
        self.started.append((child.name, child.number, more))

    def show(self, child: Child, state: State) -> None:
        """Writes `state` into the child's region of shared memory, as the child would."""
        self.regions[child.number][8:16].cast("d")[0] = float(state)

    def sent(self) -> list[tuple[str, int, str]]:
        """Returns the messages since the last call: the child's name, the child's region, the operation."""
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
        """Returns the child that is to replace another one."""
        assert self.children.successor is not None
        return self.children.successor

    def end(self, child: Child) -> str | None:
        """Lets the child exit. Returns what the rolling replacement reports about the exit."""
        self.children.reaped(child)
        return self.replacement.exited(child)

    def close(self) -> None:
        """Closes the channels, the selector and the shared memory."""
        for child, channel in self._ends.items():
            channel.close()
            if child.channel is not None:
                child.channel.close()
        self.selector.close()
        os.close(self.mapping)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(monkeypatch)
    yield made
    made.close()


OTHER_CONTROL, OTHER_WORKER = control_region(1), worker_region(0, 1)


def test_control_exits_when_its_successor_serves(world: World) -> None:
    """The successor uses the other region. When it has listed the cluster, it becomes control."""
    old = world.children.control
    world.replacement.begin([old])
    assert not world.replacement.advance(10.0)
    assert world.started == [("control", OTHER_CONTROL, ("--beside",))]
    assert world.sent() == [("control", OTHER_CONTROL, "endings")]
    world.children.connect_all(world.successor)
    assert {op for name, _, op in world.sent() if name != "control"} == {"feed"}
    world.replacement.control_is_ready(world.successor, 11.0)
    assert world.children.control.number == OTHER_CONTROL
    assert world.sent() == [("control", 0, "exit")]
    assert not world.replacement.advance(11.0 + EXIT_TIMEOUT)
    assert world.killed == []
    assert not world.replacement.advance(11.1 + EXIT_TIMEOUT)
    assert world.killed == [old]
    assert world.end(old) is None
    assert world.replacement.advance(20.0)
    assert not world.replacement.in_progress
    assert world.lines == ["[INFO] a process is replaced process=control"]


def test_a_worker_hands_over_when_its_successor_reads(world: World) -> None:
    """The successor reads the sockets when it is synced. Then the old worker hands over its connections."""
    old = world.children.workers[0]
    world.replacement.begin([old])
    world.replacement.advance(10.0)
    new = world.successor
    assert new.number == OTHER_WORKER
    assert ("worker 0", OTHER_WORKER, "read") not in world.sent()
    world.show(new, State.UNSYNCED)
    world.replacement.advance(11.0)
    assert world.sent() == []
    world.show(new, State.SYNCED)
    for _ in range(2):
        world.replacement.advance(12.0)
    assert world.sent() == [
        ("worker 0", worker_region(0, 0), "give-keys"),
        ("worker 0", OTHER_WORKER, "take-keys"),
        ("worker 0", OTHER_WORKER, "read"),
    ]
    world.show(new, State.SERVING)
    world.replacement.advance(13.0)
    world.replacement.advance(12.9 + WARM_UP)
    assert world.sent() == []
    world.replacement.advance(13.0 + WARM_UP)
    assert world.children.workers[0] is new
    assert sorted(world.sent()) == [
        ("worker 0", worker_region(0, 0), "hand-over"),
        ("worker 0", OTHER_WORKER, "take-over"),
    ]
    world.replacement.advance(13.1 + WARM_UP + HAND_OVER_TIMEOUT)
    assert world.killed == [old]


def test_an_unsynced_worker_is_replaced_by_an_unsynced_one(world: World) -> None:
    """If the API server cannot be reached, neither the worker nor its successor has cluster data."""
    world.show(world.children.workers[0], State.SERVING_UNSYNCED)
    world.replacement.begin([world.children.workers[0]])
    world.replacement.advance(10.0)
    world.show(world.successor, State.UNSYNCED)
    world.replacement.advance(11.0)
    assert ("worker 0", OTHER_WORKER, "read") in world.sent()


def test_one_replacement_at_a_time(world: World) -> None:
    """The next replacement begins after the predecessor's exit. A child that was restarted in the meantime is not
    replaced again.
    """
    control, first, second = world.children.control, *world.children.workers
    world.replacement.begin([control, first, second])
    world.replacement.advance(10.0)
    world.replacement.control_is_ready(world.successor, 10.0)
    world.replacement.advance(10.1)
    assert world.children.successor is None
    world.end(control)
    world.end(first)
    world.children.start(first)
    world.replacement.advance(10.2)
    assert world.successor.name == "worker 1"


def test_a_successor_that_fails_is_started_again(world: World) -> None:
    world.replacement.begin([world.children.control])
    world.replacement.advance(10.0)
    world.sent()
    assert world.end(world.successor) == "starting it again, its predecessor goes on"
    assert sorted(world.sent()) == [
        ("control", 0, "worker"), ("control", 0, "worker"), ("worker 0", 1, "feed"), ("worker 1", 2, "feed"),
    ]  # fmt: skip
    world.children.start(world.successor)
    assert world.started[-1] == ("control", OTHER_CONTROL, ("--beside",))


def test_a_successor_takes_the_place_of_a_predecessor_that_ends(world: World) -> None:
    old = world.children.workers[0]
    world.replacement.begin([old])
    world.replacement.advance(10.0)
    new = world.successor
    world.sent()
    assert world.end(old) == "its successor takes its place"
    assert world.children.workers[0] is new
    assert world.children.successor is None
    world.show(new, State.SYNCED)
    world.children.assign_slots(10.1, 0.0)
    assert ("worker 0", OTHER_WORKER, "read") in world.sent()
    assert world.replacement.advance(11.0)


def test_other_children_that_end_are_no_part_of_the_replacement(world: World) -> None:
    world.replacement.begin([world.children.control])
    world.replacement.advance(10.0)
    assert world.end(world.children.workers[1]) is None


def test_a_stop_ends_the_replacement(world: World) -> None:
    """The new control process is killed, and workers are connected to the old one again."""
    world.replacement.begin(list(world.children))
    world.replacement.advance(10.0)
    world.replacement.stop()
    new = world.successor
    assert world.killed == [new]
    assert world.lines == ["[INFO] the upgrade ends unfinished, because the server stops"]
    assert not world.replacement.in_progress
    world.sent()
    world.end(new)
    assert ("worker 0", 1, "feed") in world.sent()
    assert world.children.successor is None


@pytest.mark.parametrize("reads", [False, True])
def test_a_stop_keeps_a_new_worker_that_reads(world: World, *, reads: bool) -> None:
    """A new worker that does not read its sockets yet is killed."""
    world.replacement.begin([world.children.workers[0]])
    world.replacement.advance(10.0)
    new = world.successor
    if reads:
        world.show(new, State.SYNCED)
        world.replacement.advance(11.0)
    world.replacement.stop()
    assert world.killed == ([] if reads else [new])


def test_a_stop_without_a_replacement(world: World) -> None:
    world.replacement.stop()
    assert world.lines == []
    assert world.killed == []
