"""Contents of a moment: in pieces, and of one moment all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from svcdns.cluster.consistent_copy import PIECE, TRIES, Pausing, Row, Table, collect, noted, noted_by_key
from svcdns.cluster.secondary_index import Key, Place, Places

T = TypeVar("T")
PLACES = [Place(("n", str(number)), str(number).encode()) for number in range(3 * PIECE)]


def finished(work: Pausing[T], meanwhile: Callable[[int], None] = lambda _: None) -> tuple[int, T]:
    """How often the work paused, and what it made; `meanwhile` is called at each pause with its number."""
    pauses = 0
    try:
        while True:
            next(work)
            pauses += 1
            meanwhile(pauses)
    except StopIteration as end:
        return pauses, end.value


def test_what_was_noted_stays() -> None:
    """Places that change, come or go later do not show."""
    places: Places[Key] = Places()
    first, second = Place(("n", "a"), b"a"), Place(("n", "b"), b"b")
    for one in (first, second):
        places.add(("n", "web"), one)
    row = Row(finished(noted([first, second]))[1], bytes.decode)
    table = Table(finished(noted_by_key(places))[1], bytes.decode)
    first.data = b"changed"
    places.remove(("n", "web"), second)
    places.add(("n", "db"), second)
    assert (list(row), row[1], row[:1], len(row)) == (["a", "b"], "b", ["a"], 2)
    assert table == {("n", "web"): ("a", "b")}
    assert (len(table), table.get(("n", "db"), ())) == (1, ())


def test_pauses_come_piece_by_piece() -> None:
    """And nothing is lost."""
    pauses, found = finished(collect(lambda: noted(PLACES), lambda: 0))
    assert pauses == 3
    assert found == [place.data for place in PLACES]


def test_a_change_makes_it_begin_again() -> None:
    """So that no half of it is older than the other."""
    places, changes = [Place(("n", str(number)), b"old") for number in range(3 * PIECE)], [0]

    def change(pause: int) -> None:
        if pause == 2:
            changes[0] += 1
            for place in places:
                place.data = b"new"

    pauses, found = finished(collect(lambda: noted(places), lambda: changes[0]), change)
    assert set(found) == {b"new"}
    assert pauses == 2 + 3


def test_changes_without_end_do_not_keep_it_from_ending() -> None:
    """After some tries it goes through at once."""
    changes = [0]

    def change(_pause: int) -> None:
        changes[0] += 1

    pauses, found = finished(collect(lambda: noted(PLACES), lambda: changes[0]), change)
    assert pauses == TRIES
    assert len(found) == 3 * PIECE
