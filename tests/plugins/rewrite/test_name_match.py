"""Names as rules of `rewrite` see them."""

from __future__ import annotations

import pytest

from svcdns.corefile.regex import compiled
from svcdns.plugins.rewrite.name_match import Back, Match, Replaced, absolute, with_groups

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
    """What it makes of a name, and whether it holds."""
    assert match.replaced(name, to) == expected
    assert match.holds(name) == (expected is not None)
    assert Replaced(match, to)(name) == (name if expected is None else expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("made.", "asked.", id="the name"),
        pytest.param("x.y.made.", "x.y.asked.", id="below it"),
        pytest.param("unmade.", "unmade.", id="no label boundary"),
        pytest.param("other.", "other.", id="another name"),
    ],
)
def test_back(text: str, expected: str) -> None:
    """The made name, and what lies below."""
    assert Back("made.", "asked.")(text) == expected


def test_groups_go_in_by_number() -> None:
    """What a group has is looked through again for the numbers behind it, as in CoreDNS."""
    assert with_groups("{1}-{2}-{3}", ("all", "{2}", "b")) == "b-b-{3}"


def test_absolute() -> None:
    """Lowered, with one final dot."""
    assert (absolute("A.b"), absolute("A.b."), absolute("")) == ("a.b.", "a.b.", ".")
