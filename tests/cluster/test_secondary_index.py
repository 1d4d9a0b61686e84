"""Secondary indexes: keys that several objects share, and the order of the objects of a key."""

from __future__ import annotations

import pytest

from svcdns.cluster.secondary_index import SecondaryIndex, StoredObject


def stored(name: str) -> StoredObject:
    return StoredObject(("n", name), name.encode())


def names(index: SecondaryIndex[str], key: str) -> list[str]:
    return [found.key[1] for found in index.at(key)]


@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
def test_the_objects_of_a_key_are_in_order(order: str) -> None:
    index: SecondaryIndex[str] = SecondaryIndex()
    made = {name: stored(name) for name in order}
    for one in made.values():
        index.add("x", one)
    assert names(index, "x") == ["a", "b", "c"]
    for number, name in enumerate(order, 1):
        index.remove("x", made[name])
        assert names(index, "x") == sorted(order[number:])
    assert names(index, "y") == []


def test_a_move_changes_only_the_keys_that_differ() -> None:
    index: SecondaryIndex[str] = SecondaryIndex()
    one = stored("a")
    index.move(one, set(), {"x", "y"})
    index.move(one, {"x", "y"}, {"y", "z"})
    assert [names(index, key) for key in "xyz"] == [[], ["a"], ["a"]]


def test_keys_without_objects_are_removed() -> None:
    index: SecondaryIndex[str] = SecondaryIndex()
    one, other = stored("a"), stored("b")
    index.move(one, set(), {"x", "y"})
    index.move(other, set(), {"y"})
    index.move(one, {"x", "y"}, {"y"})
    assert list(index.keys()) == ["y"]
