"""Secondary indexes: shared keys, and the order of their objects."""

from __future__ import annotations

import pytest

from svcdns.cluster.secondary_index import SecondaryIndex, StoredObject


def stored(name: str) -> StoredObject:
    """Returns an object whose encoding is its name."""
    return StoredObject(("n", name), name.encode())


def names(index: SecondaryIndex[str], key: str) -> list[str]:
    """Returns the names of the objects under a key."""
    return [found.key[1] for found in index.at(key)]


@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
def test_the_objects_of_a_key_are_in_order(order: str) -> None:
    """The objects of a key are in order of their names, whatever the order of additions and removals was."""
    index: SecondaryIndex[str] = SecondaryIndex()
    made = {name: stored(name) for name in order}
    for one in made.values():
        index.add("x", one)
    assert names(index, "x") == ["a", "b", "c"]
    for number, name in enumerate(order, 1):
        index.remove("x", made[name])
        assert names(index, "x") == sorted(order[number:])
    assert names(index, "y") == []


def test_a_move_changes_the_keys_that_differ() -> None:
    """Moving an object adds it under new keys, removes it from old keys, and leaves keys in both sets unchanged."""
    index: SecondaryIndex[str] = SecondaryIndex()
    one = stored("a")
    index.move(one, set(), {"x", "y"})
    index.move(one, {"x", "y"}, {"y", "z"})
    assert [names(index, key) for key in "xyz"] == [[], ["a"], ["a"]]


def test_keys() -> None:
    """`keys` has only keys with at least one object."""
    index: SecondaryIndex[str] = SecondaryIndex()
    one, other = stored("a"), stored("b")
    index.move(one, set(), {"x", "y"})
    index.move(other, set(), {"y"})
    index.move(one, {"x", "y"}, {"y"})
    assert list(index.keys()) == ["y"]
