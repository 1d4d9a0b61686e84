"""What the supervisor does on control's word."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from svcdns.process import shared_memory
from svcdns.supervisor.process import Supervisor


class World:
    """A supervisor that has started nothing, and what it tells control."""

    def __init__(self, mapping: int) -> None:
        """It serves."""
        self.supervisor = Supervisor([], mapping)
        self.crew = self.supervisor._crew
        self.crew.served = True
        self.sent: list[Any] = []
        self.crew.control.send = lambda message, fds=None: self.sent.append(message)  # type: ignore[method-assign]

    def asks(self) -> list[Any]:
        """Control asks for its restart; what it is told."""
        self.sent.clear()
        self.supervisor._told(self.crew.control, {"op": "restart"})
        return self.sent


@pytest.fixture
def world() -> Iterator[World]:
    """Its mapping is closed at the end."""
    mapping = shared_memory.make()
    made = World(mapping)
    yield made
    made.supervisor._selector.close()
    os.close(mapping)


def test_control_ends_where_it_asks_for_a_restart(world: World) -> None:
    """Only while all is served; its end is what starts it anew."""
    assert world.asks() == [{"op": "exit"}]
    world.crew.served = False
    assert world.asks() == []
    world.crew.served = True
    world.supervisor._stopping = True
    assert world.asks() == []


def test_it_stays_while_the_program_is_upgraded(world: World) -> None:
    """Two of them are there then, and one goes anyway."""
    world.supervisor._replacing.going_on = True
    assert world.asks() == []


def test_nobody_else_restarts_it(world: World) -> None:
    """Nor one that has been replaced."""
    world.supervisor._told(world.crew.new_worker(0, shared_memory.worker_region(0, 0)), {"op": "restart"})
    assert world.sent == []
