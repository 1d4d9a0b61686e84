"""The priority of the control process."""

from __future__ import annotations

import os

import pytest

from svcdns.control.priority import BUDGET, NICE, SHARE, Priority
from svcdns.process.scheduling import SLICE_NANOSECONDS, USUAL_SLICE


class Kernel:
    """Records the time slices that are requested. Has a clock."""

    def __init__(self) -> None:
        self.requested: list[int] = []
        self.now = 100.0

    def request(self, nanoseconds: int) -> bool:
        self.requested.append(nanoseconds)
        return True


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def priority(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Priority:
    """Returns the object after its priority was lowered."""
    niced: list[int] = []
    monkeypatch.setattr(os, "nice", niced.append)
    made = Priority(kernel.request, lambda: kernel.now)
    made.worked(0.001)
    assert kernel.requested == []  # during a first start, control has the usual priority and time slices
    made.lower()
    assert niced == [NICE]
    return made


def test_changes_that_take_little_time_have_short_slices(kernel: Kernel, priority: Priority) -> None:
    for _ in range(100):
        priority.worked(0.0001)
        kernel.now += 0.0001 / SHARE
    assert kernel.requested == [SLICE_NANOSECONDS]


def test_many_changes_have_the_usual_slices_until_half_of_the_budget_is_back(
    kernel: Kernel, priority: Priority
) -> None:
    for _ in range(200):
        priority.worked(0.0001)
        kernel.now += 0.005
    assert kernel.requested == [SLICE_NANOSECONDS, USUAL_SLICE]
    kernel.now += 0.4 * BUDGET / SHARE
    priority.worked(0.0)
    assert kernel.requested == [SLICE_NANOSECONDS, USUAL_SLICE]
    kernel.now += 0.2 * BUDGET / SHARE
    priority.worked(0.0)
    assert kernel.requested == [SLICE_NANOSECONDS, USUAL_SLICE, SLICE_NANOSECONDS]
