"""How children ended, and crash loops."""

from __future__ import annotations

import pytest

from svcdns.process.shared_memory import State, enter
from svcdns.supervisor.child import LOOP, SETTLED, Child
from svcdns.supervisor.crash_loops import Endings


class World:
    """A worker that only seems to run."""

    def __init__(self) -> None:
        """Its log lines are kept."""
        self.lines: list[str] = []
        self.endings = Endings(self.lines.append)
        self.region = memoryview(bytearray(64))
        self.child = Child("worker 0", [], 0, 1, self.region, 0)

    def run(self, start: float, end: float, code: int, *, silent: bool = False) -> None:
        """It runs from `start` to `end`."""
        enter(self.region, State.STARTING)
        self.child.started, self.child.was_silent = start, silent
        self.child.died(end)
        self.endings.ended(self.child, code, end)


@pytest.mark.parametrize(
    ("code", "silent", "reason"),
    [
        pytest.param(1, False, "exit", id="of itself"),
        pytest.param(-9, False, "signal", id="killed by somebody"),
        pytest.param(-9, True, "silent", id="killed by us"),
    ],
)
def test_reasons(code: int, silent: bool, reason: str) -> None:
    """Each is counted on its own, for ever."""
    world = World()
    world.run(0.0, 100.0, code, silent=silent)
    world.run(200.0, 300.0, code, silent=silent)
    assert world.endings.message() == {"op": "endings", "counts": [["worker 0", reason, 2]], "loops": []}
    assert world.lines == []


def test_a_crash_loop_begins_and_ends() -> None:
    """With a line each; it is over when the child has run for long enough."""
    world = World()
    now = 0.0
    for number in range(LOOP + 1):
        now += 1.0
        world.run(now - 0.5, now, 1)
        assert bool(world.endings.loops) == (number + 1 >= LOOP)
    assert world.lines == [
        f"[ERROR] worker 0 ends again and again soon after its start: crash loop, next try in {wait}s" for wait in ("0.8", "1.6")
    ]
    world.child.pid, world.child.started = 1, now
    assert not world.endings.look(world.child, now + SETTLED)
    assert world.endings.look(world.child, now + SETTLED + 0.1)
    assert not world.endings.look(world.child, now + SETTLED + 0.2)
    assert world.lines[-1] == "[INFO] worker 0 runs again: its crash loop is over"
    assert world.endings.message()["loops"] == []
