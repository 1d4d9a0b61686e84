"""Places: shared keys, their order, and what is read of a moment."""

from __future__ import annotations

import pytest

from svcdns.cluster.secondary_index import Place, Places


def place(name: str) -> Place:
    """A place with its own name as data."""
    return Place(("n", name), name.encode())


def names(places: Places[str], key: str) -> list[str]:
    """The names of the places under a key."""
    return [found.key[1] for found in places.at(key)]


@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
def test_places_are_in_order(order: str) -> None:
    """Whatever the order they came and went in."""
    places: Places[str] = Places()
    made = {name: place(name) for name in order}
    for one in made.values():
        places.add("x", one)
    assert names(places, "x") == ["a", "b", "c"]
    for number, name in enumerate(order, 1):
        places.remove("x", made[name])
        assert names(places, "x") == sorted(order[number:])
    assert names(places, "y") == []


def test_a_move_touches_what_is_new_or_gone() -> None:
    """A key that stays keeps its place."""
    places: Places[str] = Places()
    one = place("a")
    places.move(one, set(), {"x", "y"})
    places.move(one, {"x", "y"}, {"y", "z"})
    assert [names(places, key) for key in "xyz"] == [[], ["a"], ["a"]]


def test_keys() -> None:
    """Those that have a place now."""
    places: Places[str] = Places()
    one, other = place("a"), place("b")
    places.move(one, set(), {"x", "y"})
    places.move(other, set(), {"y"})
    places.move(one, {"x", "y"}, {"y"})
    assert list(places.keys()) == ["y"]
