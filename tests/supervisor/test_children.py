"""The supervisor's children, and which worker reads which sockets."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Iterator

import pytest

from svcdns.process import shared_memory
from svcdns.process.channel import Channel, Message
from svcdns.process.shared_memory import State, worker_region
from svcdns.supervisor.child import STALL_TIMEOUT
from svcdns.supervisor.children import HOLD, Children
from svcdns.supervisor.early_sockets import Address
from tests.support.server import free_port


class World:
    """A supervisor's children without processes, and the messages to them."""

    def __init__(self, count: int) -> None:
        """Creates `count` serving workers. Their last heartbeat was at 100.0."""
        self.selector = selectors.DefaultSelector()
        self.mapping = shared_memory.create()
        self.regions = shared_memory.regions(self.mapping)
        self.children = Children(self.selector, lambda _line: None, [], self.mapping)
        self.theirs: list[Channel] = []
        for slot in range(count):
            worker = self.children.new_worker(slot, worker_region(slot, 0))
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            worker.pid, worker.channel = 1 << 30, Channel(ours)
            self.theirs.append(Channel(theirs))
            self.children.workers.append(worker)
            self.show(slot, 100.0, State.SERVING)
        self.assign(100.0)

    def restart(self, slot: int, now: float) -> None:
        """Makes another process the worker of this slot, in state STARTING."""
        worker = self.children.workers[slot]
        worker.pid, worker.is_restart, worker.started = worker.pid + 1 or 1 << 29, True, now
        self.show(slot, now, State.STARTING)

    def show(self, slot: int, heartbeat_at: float, state: State) -> None:
        """Writes heartbeat and state into a worker's region, as the worker would."""
        cells = self.regions[worker_region(slot, 0)][0:16].cast("d")
        cells[0], cells[1] = heartbeat_at, float(state)

    def assigned(self, slot: int) -> list[Message]:
        """Returns the messages since the last call that tell this worker which slots to read."""
        return [message["slots"] for message in self.theirs[slot].receive()]

    def assign(self, now: float, awake_since: float = 0.0) -> list[list[Message]]:
        """Assigns sockets at `now`. Returns the messages that tell each worker which slots to read."""
        self.children.assign_slots(now, awake_since)
        return [self.assigned(slot) for slot in range(len(self.theirs))]

    def close(self) -> None:
        """Closes the channels, the selector and the shared memory."""
        for channel in (*self.theirs, *(worker.channel for worker in self.children.workers)):
            if channel is not None:
                channel.close()
        self.selector.close()
        os.close(self.mapping)


@pytest.fixture
def world() -> Iterator[World]:
    made = World(2)
    yield made
    made.close()


def test_nothing_is_sent_while_all_workers_serve(world: World) -> None:
    assert world.assign(100.1) == [[], []]


def test_a_stalled_worker_is_covered_until_its_next_heartbeat(world: World) -> None:
    """After `STALL_TIMEOUT` without a heartbeat, another worker reads the stalled worker's sockets."""
    world.show(1, 100.0 + STALL_TIMEOUT, State.SERVING)
    assert world.assign(100.1 + STALL_TIMEOUT) == [[], [[1, 0]]]
    assert world.assign(100.2 + STALL_TIMEOUT) == [[], []]
    world.show(0, 100.3 + STALL_TIMEOUT, State.SERVING)
    assert world.assign(100.3 + STALL_TIMEOUT) == [[], [[1]]]


def test_a_worker_that_is_down_is_covered_until_it_serves(world: World) -> None:
    """Another worker reads the sockets until the successor knows the cluster."""
    world.children.workers[0].pid = 0
    assert world.assign(100.1) == [[], [[1, 0]]]
    world.restart(0, 100.2)
    assert world.assign(100.2) == [[[]], []]
    assert world.children.has_unassigned
    world.show(0, 150.0, State.UNSYNCED)
    world.show(1, 150.0, State.SERVING)
    assert world.assign(150.0) == [[], []]
    world.show(0, 150.1, State.SYNCED)
    assert world.assign(150.1) == [[[0]], []]
    assert not world.children.has_unassigned
    world.show(0, 150.2, State.SERVING)
    assert world.assign(150.2) == [[], [[1]]]


@pytest.mark.parametrize("state", [State.STARTING, State.UNSYNCED], ids=lambda state: state.name.lower())
def test_without_another_serving_worker_queries_wait(world: World, state: State) -> None:
    """Queries wait for `HOLD` seconds. Then a worker without cluster data answers what it can."""
    world.children.workers[1].pid = 0
    world.restart(0, 100.2)
    world.show(0, 100.2, state)
    assert world.assign(100.2 + HOLD) == [[[]], []]
    assert world.assign(100.3 + HOLD) == [[[0]], []]


def test_at_the_first_start_workers_read_immediately(world: World) -> None:
    """Control has already waited for the cluster."""
    world.restart(0, 100.2)
    world.children.workers[0].is_restart = False
    assert world.assign(100.2) == [[[0]], [[1, 0]]]


def test_no_slot_is_covered_where_no_worker_serves(world: World) -> None:
    for slot in (0, 1):
        world.show(slot, 50.0, State.SERVING)
    assert world.assign(100.0) == [[], []]
    world.show(0, 100.0, State.SERVING)
    assert world.assign(100.1) == [[[0, 1]], []]


def test_time_in_which_the_supervisor_was_stopped_does_not_count(world: World) -> None:
    assert world.assign(200.0, awake_since=199.9) == [[], []]


def test_no_slots_are_assigned_while_draining(world: World) -> None:
    world.children.draining = True
    world.children.workers[0].pid = 0
    assert world.assign(100.1) == [[], []]


@pytest.fixture
def address() -> Address:
    """Returns a UDP address on loopback that no socket has."""
    return "127.0.0.1", free_port(), "udp"


@pytest.fixture
def starting() -> Iterator[World]:
    """Yields a supervisor's children with one worker, before the DNS ports are open."""
    made = World(1)
    yield made
    made.children.sockets.close(made.children.sockets.all)
    made.close()


def test_a_query_waits_in_a_port_that_is_opened_early(starting: World, address: Address) -> None:
    """When control opens the ports, the worker gets the early socket. A query from before is still in it."""
    starting.children.listen_early([address])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"query", address[:2])
    (early,) = starting.children.sockets.all
    assert starting.theirs[0].receive() == []
    assert starting.children.listen([address]) == ""
    (message,) = starting.theirs[0].receive()
    assert [one["id"] for one in message["add"]] == [early.id]
    assert early.sock.recv(100) == b"query"
    os.close(message["fds"][0])


def test_an_early_port_that_is_not_wanted_is_closed(starting: World, address: Address) -> None:
    starting.children.listen_early([address])
    (early,) = starting.children.sockets.all
    assert starting.children.listen([("127.0.0.1", 0, "tcp")]) == ""
    (message,) = starting.theirs[0].receive()
    assert message["remove"] == []
    assert [one["proto"] for one in message["add"]] == ["tcp"]
    assert early.sock.fileno() == -1
    os.close(message["fds"][0])


def test_a_port_of_another_program_is_not_opened_early(starting: World, address: Address) -> None:
    """The other program may answer the queries. `listen` reports the conflict."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(address[:2])
        starting.children.listen_early([address])
        assert starting.children.sockets.all == []
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = "127.0.0.1", other.getsockname()[1], "tcp"
        starting.children.listen_early([address, taken])
        assert starting.children.sockets.all == []
        assert "address already in use" in starting.children.listen([address, taken])
