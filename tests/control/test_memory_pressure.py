"""The memory budget: the steps when the container's memory fills up, in virtual time."""

from __future__ import annotations

import logging

import pytest

from svcdns.control.memory_pressure import GROW, SMALLEST, STAY, STEP, MemoryBudget
from svcdns.process.memory_cgroup import MemoryGroup, Usage
from svcdns.telemetry.counters import Counters
from tests.support import world

LIMIT = 1000 << 20


class Group(MemoryGroup):
    """A control group. The test sets the memory use. None means that it cannot be read."""

    def __init__(self) -> None:
        self.percent: float | None = 50

    def usage(self) -> Usage | None:
        """Returns the memory use that the test has set."""
        return None if self.percent is None else Usage(LIMIT, int(LIMIT * self.percent / 100))


class World:
    """A memory budget. The test sets the clock and the memory use."""

    def __init__(self, counters: Counters | None = None, *, again: bool = False) -> None:
        self.counters = counters or Counters()
        self.clock, self.group = world.Clock(), Group()
        self.shares: list[float] = []
        self.restarts = 0
        self.own = 400 << 20
        self.budget = MemoryBudget(
            self.counters,
            self.clock,
            self.shares.append,
            self._restart,
            lambda: self.own,
            again=again,
            group=self.group,
        )

    def _restart(self) -> None:
        self.restarts += 1

    def after(self, seconds: float, percent: float | None, *, serving: bool = True) -> None:
        """Moves the clock by some seconds while memory use is at `percent` of the limit."""
        self.group.percent = percent
        for _ in range(int(seconds)):
            self.clock.turn(1)
            self.budget.check(serving=serving)

    def counted(self, name: str) -> float:
        """Returns the value of a memory metric. A colon and a label value may follow the name."""
        name, _, label = name.partition(":")
        return world.counted(self.counters).get((f"svcdns_memory_{name}", *([label] if label else [])), 0)


def test_limit_and_working_set_are_metrics() -> None:
    made = World()
    made.after(100, 84)
    assert made.counted("limit_bytes") == LIMIT
    assert made.counted("working_set_bytes") == 84 * LIMIT // 100
    assert (made.shares, made.counted("share"), made.restarts) == ([1], 1, 0)


def test_tables_shrink_step_by_step(caplog: pytest.LogCaptureFixture) -> None:
    """If memory use is high, tables shrink in steps to the smallest size. Each step is logged and counted."""
    made = World()
    made.after(1, 86)
    assert made.shares == [1, 0.5]
    made.after(STEP - 1, 86)
    assert made.shares == [1, 0.5]
    made.after(100, 86)
    assert made.shares == [1, 0.5, 0.25, SMALLEST]
    assert made.counted("pressure_total:shrink") == len(caplog.messages) == 3
    assert (
        caplog.messages[0]
        == "memory: answer tables and caches shrink share=0.5 used_mib=860 limit_mib=1000 used_percent=86"
    )
    assert made.counted("share") == SMALLEST
    assert made.restarts == 0


def test_tables_grow_again_below_the_lower_limit(caplog: pytest.LogCaptureFixture) -> None:
    made = World()
    made.after(10, 90)
    made.after(100, 76)
    assert made.shares[-1] == SMALLEST
    with caplog.at_level(logging.INFO, "svcdns"):
        made.after(1, 74)
        assert made.shares[-1] == 2 * SMALLEST
        made.after(GROW - 1, 74)
        assert made.shares[-1] == 2 * SMALLEST
        made.after(3 * GROW, 74)
    assert made.shares[-1] == 1
    assert made.counted("pressure_total:allow") == 3
    assert (
        caplog.messages[-1]
        == "memory: answer tables and caches may grow share=1 used_mib=740 limit_mib=1000 used_percent=74"
    )


def test_control_is_restarted_when_memory_is_nearly_full(caplog: pytest.LogCaptureFixture) -> None:
    """Memory is nearly full in two checks. A second restart is requested only after a while."""
    made = World()
    made.after(10, 96, serving=False)
    made.after(1, 94)
    made.after(1, 96)
    assert made.restarts == 0
    made.after(1, 96)
    assert made.restarts == 1
    line = "memory: control is restarted; workers go on private_mib=400 others_have_most=false"
    assert caplog.messages[-1] == f"{line} used_mib=960 limit_mib=1000 used_percent=96"
    assert made.counted("pressure_total:restart") == 1
    made.after(STAY - 1, 96)
    assert made.restarts == 1
    made.after(2, 96)
    assert made.restarts == 2


def test_a_restarted_control_process_waits_with_the_next_request(caplog: pytest.LogCaptureFixture) -> None:
    """The tables keep their reduced size. If other processes use most of the memory, the log line says so."""
    first = World()
    first.after(10, 97)
    second = World(first.counters, again=True)
    assert second.shares == [SMALLEST]
    second.after(STAY - 1, 97)
    assert second.restarts == 0
    second.own = 30 << 20
    second.after(1, 97)
    assert second.restarts == 1
    assert "private_mib=30 others_have_most=true" in caplog.messages[-1]


def test_without_a_limit_nothing_is_done(caplog: pytest.LogCaptureFixture) -> None:
    made = World()
    with caplog.at_level(logging.DEBUG, "svcdns"):
        made.after(10, None)
    assert caplog.messages == ["memory: no limit can be read"]
    assert made.shares == [1]
    assert made.counted("limit_bytes") == 0
