"""The memory budget: steps as the container's memory fills up, on virtual time."""

from __future__ import annotations

import logging

import pytest

from svcdns.control.memory_pressure import GROW, LEAST, STAY, STEP, MemoryBudget
from svcdns.process.memory_cgroup import MemoryGroup, Usage
from svcdns.telemetry.counters import Counters
from tests.support import world

LIMIT = 1000 << 20


class Group(MemoryGroup):
    """A control group whose use the test sets; None cannot be read."""

    def __init__(self) -> None:
        """Half full."""
        self.percent: float | None = 50

    def usage(self) -> Usage | None:
        """What the test says."""
        return None if self.percent is None else Usage(LIMIT, int(LIMIT * self.percent / 100))


class World:
    """A budget, and what it has done."""

    def __init__(self, counters: Counters | None = None, *, again: bool = False) -> None:
        """In one life of control."""
        self.counters = counters or Counters()
        self.clock, self.group = world.Clock(), Group()
        self.shares: list[float] = []
        self.restarts = 0
        self.own = 400 << 20
        self.budget = MemoryBudget(
            self.counters, self.clock, self.shares.append, self._restart, lambda: self.own, again=again, group=self.group
        )

    def _restart(self) -> None:
        self.restarts += 1

    def after(self, seconds: float, percent: float | None, *, serving: bool = True) -> None:
        """Time passes with this use."""
        self.group.percent = percent
        for _ in range(int(seconds)):
            self.clock.turn(1)
            self.budget.look(serving=serving)

    def counted(self, name: str) -> float:
        """A metric; `name` may have the label's value behind a colon."""
        name, _, label = name.partition(":")
        return world.counted(self.counters).get((f"svcdns_memory_{name}", *([label] if label else [])), 0)


def test_what_is_used_is_shown() -> None:
    """Limit and working set; nothing is done while there is room."""
    made = World()
    made.after(100, 84)
    assert made.counted("limit_bytes") == LIMIT
    assert made.counted("working_set_bytes") == 84 * LIMIT // 100
    assert (made.shares, made.counted("share"), made.restarts) == ([1], 1, 0)


def test_tables_shrink_step_by_step(caplog: pytest.LogCaptureFixture) -> None:
    """At once at first, then while it does not get better, down to a rest; each step is a line and is counted."""
    made = World()
    made.after(1, 86)
    assert made.shares == [1, 0.5]
    made.after(STEP - 1, 86)
    assert made.shares == [1, 0.5]
    made.after(100, 86)
    assert made.shares == [1, 0.5, 0.25, LEAST]
    assert made.counted("pressure_total:shrink") == len(caplog.messages) == 3
    assert caplog.messages[0] == "memory: 860 MiB of 1000 MiB in use (86 %): answer tables and caches shrink to 1/2 of their usual size"
    assert made.counted("share") == LEAST
    assert made.restarts == 0


def test_they_grow_again_where_there_is_room(caplog: pytest.LogCaptureFixture) -> None:
    """Not between the two marks, and slowly."""
    made = World()
    made.after(10, 90)
    made.after(100, 76)
    assert made.shares[-1] == LEAST
    with caplog.at_level(logging.INFO, "svcdns"):
        made.after(1, 74)
        assert made.shares[-1] == 2 * LEAST
        made.after(GROW - 1, 74)
        assert made.shares[-1] == 2 * LEAST
        made.after(3 * GROW, 74)
    assert made.shares[-1] == 1
    assert made.counted("pressure_total:allow") == 3
    assert caplog.messages[-1] == "memory: 740 MiB of 1000 MiB in use (74 %): answer tables and caches may have all of their usual size"


def test_control_is_restarted_where_it_is_nearly_full(caplog: pytest.LogCaptureFixture) -> None:
    """Two looks in a row, while it serves; asked again only after a while."""
    made = World()
    made.after(10, 96, serving=False)
    made.after(1, 94)
    made.after(1, 96)
    assert made.restarts == 0
    made.after(1, 96)
    assert made.restarts == 1
    line = "memory: 960 MiB of 1000 MiB in use (96 %): control, which holds 400 MiB alone, is restarted, workers answer on"
    assert caplog.messages[-1] == line
    assert made.counted("pressure_total:restart") == 1
    made.after(STAY - 1, 96)
    assert made.restarts == 1
    made.after(2, 96)
    assert made.restarts == 2


def test_the_one_after_it_stays_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    """It goes on with the same share; memory that others hold restarts nothing again and again, and the line says whose it may be."""
    first = World()
    first.after(10, 97)
    second = World(first.counters, again=True)
    assert second.shares == [LEAST]
    second.after(STAY - 1, 97)
    assert second.restarts == 0
    second.own = 30 << 20
    second.after(1, 97)
    assert second.restarts == 1
    assert caplog.messages[-1].endswith("; that is little of it, so what fills the memory is elsewhere")


def test_without_a_limit_nothing_is_done(caplog: pytest.LogCaptureFixture) -> None:
    """One line for those who debug."""
    made = World()
    with caplog.at_level(logging.DEBUG, "svcdns"):
        made.after(10, None)
    assert caplog.messages == ["memory: no limit to keep to can be read"]
    assert made.shares == [1]
    assert made.counted("limit_bytes") == 0
