"""Matching and changing names in rules of *rewrite*."""

from __future__ import annotations

import pytest

from svcdns.corefile.regex import compiled
from svcdns.plugins.rewrite.name_match import Match, ReplaceName, RevertName, absolute, with_groups

REGEX = Match("regex", r"(.*)\.(.*)\.a\.", compiled(r"(.*)\.(.*)\.a\."))


@pytest.mark.parametrize(
    ("match", "name", "to", "expected"),
    [
        pytest.param(Match("exact", "a.b."), "a.b.", "c.", "c.", id="exact"),
        pytest.param(Match("exact", "a.b."), "x.a.b.", "c.", None, id="exact is not below"),
        pytest.param(Match("prefix", "foo."), "foo.b.", "bar.", "bar.b.", id="prefix"),
        pytest.param(Match("prefix", "foo."), "foot.b.", "bar.", None, id="prefix ends a label"),
        pytest.param(Match("suffix", ".b."), "a.b.", ".c.", "a.c.", id="suffix"),
        pytest.param(Match("suffix", "b."), "ab.", "c.", "ac.", id="suffix may begin within a label"),
        pytest.param(Match("substring", "b."), "b.xb.c.", "d.", "d.xd.c.", id="substring, everywhere"),
        pytest.param(REGEX, "x.y.a.", "{2}.{1}.{0}", "y.x.x.y.a.", id="regex with groups"),
        pytest.param(REGEX, "a.", "{1}.", None, id="regex that does not match"),
    ],
)
def test_match(match: Match, name: str, to: str, expected: str | None) -> None:
    """`match` returns the changed name, or None if the name does not match."""
    assert match.replaced(name, to) == expected
    assert match.matches(name) == (expected is not None)
    assert ReplaceName(match, to)(name) == (name if expected is None else expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("new.", "old.", id="the name"),
        pytest.param("x.y.new.", "x.y.old.", id="below it"),
        pytest.param("anew.", "anew.", id="no label boundary"),
        pytest.param("other.", "other.", id="another name"),
    ],
)
def test_revert_name(text: str, expected: str) -> None:
    """RevertName replaces the new name with the old one, also if it is the suffix of a longer name."""
    assert RevertName("new.", "old.")(text) == expected


def test_groups_are_replaced_in_the_order_of_their_numbers() -> None:
    """As in CoreDNS, a replaced group may contain the numbers of later groups, which are then replaced, too."""
    assert with_groups("{1}-{2}-{3}", ("all", "{2}", "b")) == "b-b-{3}"


def test_absolute() -> None:
    """`absolute` returns a name in lower case with one final dot."""
    assert (absolute("A.b"), absolute("A.b."), absolute("")) == ("a.b.", "a.b.", ".")
