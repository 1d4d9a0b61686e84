"""Returning free memory to the operating system, and pausing the garbage collector."""

from __future__ import annotations

import gc
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from svcdns.process.heap import FREE_STEP, collector_paused, free_in_steps, release_free_memory


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_free_memory_is_returned() -> None:
    """The memory is returned even if blocks in between are in use."""
    blocks = [bytes(40_000) for _ in range(1000)]
    kept = blocks[::50]
    before = _resident()
    del blocks
    release_free_memory()
    assert before - _resident() > 20 << 20
    assert len(kept) == 20


def _many() -> list[list[int]]:
    """Makes objects while the collector is paused twice."""
    with collector_paused():
        with collector_paused():
            made: list[list[int]] = [[] for _ in range(100)]
        assert not gc.isenabled()
        return made


def test_the_collector_is_paused() -> None:
    """Nested pauses end with the outermost pause. Later collections do not examine the objects that were made in a
    pause.
    """
    gc.collect()
    try:
        made = _many()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 100
        assert not {id(one) for one in made} & {id(one) for one in gc.get_objects()}
    finally:
        gc.unfreeze()


def test_the_collector_runs_again_after_an_error() -> None:
    try:
        with pytest.raises(KeyError), collector_paused():
            raise KeyError
        assert gc.isenabled()
    finally:
        gc.unfreeze()


class Freed:
    """An object that counts the freed objects of its class."""

    count = 0

    def __del__(self) -> None:
        """Counts this object."""
        Freed.count += 1


@pytest.mark.parametrize("kind", [list, dict])
def test_objects_are_freed_in_steps(monkeypatch: pytest.MonkeyPatch, kind: type[list[Any] | dict[Any, Any]]) -> None:
    """Another thread can run between two steps. In this test, a trace function stands for the thread."""
    monkeypatch.setattr(Freed, "count", 0)
    numbers = range(1000)
    items: list[Any] | dict[Any, Any] = [Freed() for _ in numbers] if kind is list else {n: Freed() for n in numbers}
    counts: list[int] = []

    def trace(_frame: object, _event: str, _argument: object) -> Any:
        counts.append(Freed.count)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        free_in_steps(items)
    finally:
        sys.settrace(before)
    assert not items
    assert Freed.count == 1000
    assert max(later - earlier for earlier, later in pairwise(counts)) <= FREE_STEP
