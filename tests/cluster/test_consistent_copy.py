"""Copying the cluster's objects in several steps. The copy has the state of a single moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from svcdns.cluster.consistent_copy import (
    STEP_SIZE,
    TRIES,
    InSteps,
    LazyGroups,
    LazyList,
    copy_consistently,
    copy_groups,
    copy_objects,
)
from svcdns.cluster.secondary_index import LoweredName, SecondaryIndex, StoredObject

T = TypeVar("T")
STORED = [StoredObject(("n", str(number)), str(number).encode()) for number in range(3 * STEP_SIZE)]


def finished(work: InSteps[T], meanwhile: Callable[[int], None] = lambda _: None) -> tuple[int, T]:
    """Runs `work` to its end, with `meanwhile` after each step. Returns the number of steps and the result."""
    steps = 0
    try:
        while True:
            next(work)
            steps += 1
            meanwhile(steps)
    except StopIteration as end:
        return steps, end.value


def test_later_changes_do_not_show_in_a_copy() -> None:
    index: SecondaryIndex[LoweredName] = SecondaryIndex()
    first, second = StoredObject(("n", "a"), b"a"), StoredObject(("n", "b"), b"b")
    for one in (first, second):
        index.add(("n", "web"), one)
    objects = LazyList(finished(copy_objects([first, second]))[1], bytes.decode)
    groups = LazyGroups(finished(copy_groups(index))[1], bytes.decode)
    first.data = b"changed"
    index.remove(("n", "web"), second)
    index.add(("n", "db"), second)
    assert (list(objects), objects[1], objects[:1], len(objects)) == (["a", "b"], "b", ["a"], 2)
    assert groups == {("n", "web"): ("a", "b")}
    assert (len(groups), groups.get(("n", "db"), ())) == (1, ())


def test_a_copy_is_made_in_steps() -> None:
    steps, found = finished(copy_consistently(lambda: copy_objects(STORED), lambda: 0))
    assert steps == 3
    assert found == [stored.data for stored in STORED]


def test_a_change_starts_the_copy_anew() -> None:
    index, changes = [StoredObject(("n", str(number)), b"old") for number in range(3 * STEP_SIZE)], [0]

    def change(step: int) -> None:
        if step == 2:
            changes[0] += 1
            for stored in index:
                stored.data = b"new"

    steps, found = finished(copy_consistently(lambda: copy_objects(index), lambda: changes[0]), change)
    assert set(found) == {b"new"}
    assert steps == 2 + 3


def test_a_copy_is_made_in_one_step_after_tries_failed_attempts() -> None:
    changes = [0]

    def change(_step: int) -> None:
        changes[0] += 1

    steps, found = finished(copy_consistently(lambda: copy_objects(STORED), lambda: changes[0]), change)
    assert steps == TRIES
    assert len(found) == 3 * STEP_SIZE
