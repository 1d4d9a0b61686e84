"""Counting the exits of children by reason, and finding crash loops."""

from __future__ import annotations

import pytest

from svcdns.process.shared_memory import State, reset
from svcdns.supervisor.child import CRASH_LOOP_EXITS, STABLE_AFTER, Child
from svcdns.supervisor.crash_loops import Exits


class World:
    """The exit record of a child without a process."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.exits = Exits(self.lines.append)
        self.region = memoryview(bytearray(64))
        self.child = Child("worker 0", [], 0, 1, self.region, 0)

    def run(self, start: float, end: float, code: int, *, silent: bool = False) -> None:
        """Counts one run of the child, from `start` to `end`."""
        reset(self.region, State.STARTING)
        self.child.started, self.child.was_unresponsive = start, silent
        self.child.exited(end)
        self.exits.count(self.child, code, end)


@pytest.mark.parametrize(
    ("code", "silent", "reason"),
    [
        pytest.param(1, False, "exit", id="of itself"),
        pytest.param(-9, False, "signal", id="killed by somebody"),
        pytest.param(-9, True, "silent", id="killed by us"),
    ],
)
def test_reasons(code: int, silent: bool, reason: str) -> None:
    """The reasons are: exit, signal, silent."""
    world = World()
    world.run(0.0, 100.0, code, silent=silent)
    world.run(200.0, 300.0, code, silent=silent)
    assert world.exits.message() == {"op": "endings", "counts": [["worker 0", reason, 2]], "loops": []}
    assert world.lines == []


def test_a_crash_loop_begins_and_ends() -> None:
    """The beginning and the end are logged. The loop ends when the child has run longer than `STABLE_AFTER`."""
    world = World()
    now = 0.0
    for number in range(CRASH_LOOP_EXITS + 1):
        now += 1.0
        world.run(now - 0.5, now, 1)
        assert bool(world.exits.loops) == (number + 1 >= CRASH_LOOP_EXITS)
    assert world.lines == [
        '[ERROR] a process is in a crash loop process="worker 0" '
        f"exits_soon_after_start={exits} next_start_seconds={wait}"
        for exits, wait in ((3, "0.8"), (4, "1.6"))
    ]
    world.child.pid, world.child.started = 1, now
    assert not world.exits.check_recovered(world.child, now + STABLE_AFTER)
    assert world.exits.check_recovered(world.child, now + STABLE_AFTER + 0.1)
    assert not world.exits.check_recovered(world.child, now + STABLE_AFTER + 0.2)
    assert world.lines[-1] == '[INFO] a process is stable again: its crash loop is over process="worker 0"'
    assert world.exits.message()["loops"] == []
