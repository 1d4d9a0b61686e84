"""Copies of the cluster's objects that are made in steps, and still show the state of one moment."""

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
    """Runs the work to its end, and returns the number of steps and the result. Calls `meanwhile` after each step."""
    steps = 0
    try:
        while True:
            next(work)
            steps += 1
            meanwhile(steps)
    except StopIteration as end:
        return steps, end.value


def test_later_changes_do_not_show_in_a_copy() -> None:
    """Objects that are changed, added or removed later do not appear in a copy."""
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
    """The copy is made in several steps, and has every object."""
    steps, found = finished(copy_consistently(lambda: copy_objects(STORED), lambda: 0))
    assert steps == 3
    assert found == [stored.data for stored in STORED]


def test_a_change_starts_the_copy_anew() -> None:
    """If an object changes during the copy, the copy is restarted, so that all its objects are from one moment."""
    index, changes = [StoredObject(("n", str(number)), b"old") for number in range(3 * STEP_SIZE)], [0]

    def change(step: int) -> None:
        if step == 2:
            changes[0] += 1
            for stored in index:
                stored.data = b"new"

    steps, found = finished(copy_consistently(lambda: copy_objects(index), lambda: changes[0]), change)
    assert set(found) == {b"new"}
    assert steps == 2 + 3


def test_a_copy_ends_although_changes_do_not() -> None:
    """If the objects change during each attempt, the copy is made in a single step after `TRIES` attempts."""
    changes = [0]

    def change(_step: int) -> None:
        changes[0] += 1

    steps, found = finished(copy_consistently(lambda: copy_objects(STORED), lambda: changes[0]), change)
    assert steps == TRIES
    assert len(found) == 3 * STEP_SIZE
