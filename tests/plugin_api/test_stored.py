"""Selections of stored replies, and how equal replies are joined."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.stored import Selection, StoredReply
from svcdns.wire import names

A = names.from_text("a.example.org.")


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (Selection(), True),
        (Selection(A), True),
        (Selection(A, rtype=1), True),
        (Selection(A, rtype=28), False),
        (Selection(names.from_text("b.example.org.")), False),
        (Selection(zone=names.from_text("example.org.")), True),
        (Selection(zone=names.from_text("le.org.")), False),
    ],
)
def test_selections(selection: Selection, *, found: bool) -> None:
    assert (selection.has_name(A) and selection.has_type(1)) is found


def test_equal_replies_are_joined() -> None:
    first = StoredReply("table", "s", A, 1, 0, 5, 3.0, None)
    first.join(StoredReply("table", "s", A, 1, 0, 9, 2.0, 4, 2))
    assert (first.ttl, first.expires, first.hits, first.count) == (9, 3.0, 4, 3)
    first.join(StoredReply("table", "s", A, 1, 0, 1, None, 1))
    first.join(StoredReply("table", "s", A, 1, 0, 1, 7.0, 1))
    assert (first.expires, first.hits, first.count) == (None, 6, 5)
