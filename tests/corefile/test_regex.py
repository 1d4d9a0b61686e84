"""Regular expressions in a Corefile."""

from __future__ import annotations

import time

import pytest

from svcdns.corefile.blocks import Position, Token
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.regex import MAX_LENGTH, regex


def token(text: str) -> Token:
    return Token(text, Position("Corefile", 3, 4))


def test_finds_the_leftmost_match_and_its_groups() -> None:
    """An unused group is empty. Both of Go's forms of group names are accepted."""
    pattern = regex(token(r"(?P<a>\d+)-(?<b>\d+)(x)?"))
    assert pattern.find("ip 1-22, 3-4") == ("1-22", "1", "22", "")
    assert pattern.find("ip") is None
    assert (pattern.groups, pattern.names) == (3, (("a", 1), ("b", 2)))


def test_equal_texts_are_equal_patterns() -> None:
    """Options that contain equal patterns must compare as equal."""
    assert regex(token("a+")) == regex(token("a+")) != regex(token("a*"))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("(", id="not closed"),
        pytest.param(r"(a)\1", id="a back reference"),
        pytest.param(r"\p{Letter}", id="a long name of a category"),
        pytest.param("a" * (MAX_LENGTH + 1), id="too long"),
    ],
)
def test_errors_have_the_position_of_the_word(text: str) -> None:
    with pytest.raises(CorefileError, match=r"^Corefile:3:4 "):
        regex(token(text))


def test_matching_takes_linear_time() -> None:
    """An engine with backtracking would take exponential time for this pattern."""
    started = time.monotonic()
    assert regex(token(r"^(\w+\w+)+x$")).find("a" * 250 + ".") is None
    assert time.monotonic() - started < 1
