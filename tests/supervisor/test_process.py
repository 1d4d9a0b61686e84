"""What the supervisor does at the request of control."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from svcdns.process import shared_memory
from svcdns.process.channel import Message
from svcdns.supervisor.child import Child
from svcdns.supervisor.children import DRAIN_TIMEOUT
from svcdns.supervisor.process import EXIT_TIMEOUT, REPLACED_DRAIN_TIMEOUT, Supervisor


class World:
    """A supervisor that has started nothing, and its messages to control."""

    def __init__(self, mapping: int) -> None:
        """Creates a supervisor whose children have served."""
        self.supervisor = Supervisor([], mapping)
        self.children = self.supervisor._children
        self.children.served = True
        self.sent: list[Any] = []
        self.children.control.send = lambda message, fds=None: self.sent.append(message)  # type: ignore[method-assign]

    def ask_for_restart(self) -> list[Any]:
        """Sends the supervisor a restart request from control. Returns the messages that control gets."""
        self.sent.clear()
        self.supervisor._handle_message(self.children.control, {"op": "restart"})
        return self.sent


@pytest.fixture
def world() -> Iterator[World]:
    mapping = shared_memory.create()
    made = World(mapping)
    yield made
    made.supervisor._selector.close()
    os.close(mapping)


def test_control_is_restarted_on_its_request(world: World) -> None:
    """The server must be serving, and must not be stopping."""
    assert world.ask_for_restart() == [{"op": "exit"}]
    world.children.served = False
    assert world.ask_for_restart() == []
    world.children.served = True
    world.supervisor._stopping = True
    assert world.ask_for_restart() == []


def test_control_is_not_restarted_during_an_upgrade(world: World) -> None:
    world.supervisor._replacement.in_progress = True
    assert world.ask_for_restart() == []


def test_other_children_cannot_restart_control(world: World) -> None:
    world.supervisor._handle_message(world.children.new_worker(0, shared_memory.worker_region(0, 0)), {"op": "restart"})
    assert world.sent == []


def test_a_stop_drains_workers_that_have_been_replaced_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop comes during an upgrade. Workers that were already replaced get less time."""
    children, supervisor = world.children, world.supervisor
    old = children.new_worker(0, shared_memory.worker_region(0, 0))
    children.workers = [children.new_worker(0, shared_memory.worker_region(0, 1))]
    children.predecessors[old] = float("inf")
    sent: list[tuple[Child, str]] = []
    closes: list[bool] = []
    killed: list[Child] = []
    for child in (old, *children.workers):
        child.pid = 1 << 30

    def send(child: Child, message: Message, _fds: object = None) -> None:
        sent.append((child, message["op"]))
        closes.append(bool(message.get("close")))

    monkeypatch.setattr(Child, "send", send)
    monkeypatch.setattr(Child, "kill", lambda child, _number=9: killed.append(child))
    supervisor._handle_message(children.control, {"op": "lame", "close": True})
    assert sent == [(children.workers[0], "end-behind-answers"), (old, "end-behind-answers")]
    assert closes == [True, True]
    sent.clear()
    supervisor._stopping = True
    supervisor._handle_message(children.control, {"op": "stopping-done"})
    supervisor._advance_stop(time.monotonic())
    assert sent == [(children.workers[0], "drain"), (old, "drain")]
    assert world.sent == [{"op": "exit"}]
    now = time.monotonic()
    supervisor._advance_stop(now)
    assert killed == []
    supervisor._advance_stop(now + REPLACED_DRAIN_TIMEOUT + 0.1)
    assert killed == [old]
    supervisor._advance_stop(now + DRAIN_TIMEOUT + 0.1)
    assert children.workers[0] in killed


def test_workers_serve_until_control_has_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """During a stop, workers are told to finish only after control has exited or was killed."""
    children, supervisor = world.children, world.supervisor
    worker = children.new_worker(0, shared_memory.worker_region(0, 0))
    children.workers = [worker]
    worker.pid = children.control.pid = 1 << 30
    sent: list[Message] = []
    killed: list[Child] = []
    monkeypatch.setattr(worker, "send", lambda message, fds=None: sent.append(message))
    monkeypatch.setattr(Child, "kill", lambda child, _number=9: killed.append(child))
    supervisor._stopping = True
    supervisor._advance_stop(time.monotonic() + 100)
    supervisor._handle_message(children.control, {"op": "stopping-done"})
    now = time.monotonic()
    supervisor._advance_stop(now)
    assert (world.sent, sent, killed) == ([{"op": "exit"}], [], [])
    supervisor._advance_stop(now + EXIT_TIMEOUT + 0.1)
    assert (sent, killed) == ([], [children.control])
    children.control.pid = 0
    supervisor._advance_stop(now + EXIT_TIMEOUT + 0.2)
    assert sent == [{"op": "drain"}]
