"""Label selectors: their syntax, and the labels that they match."""

from __future__ import annotations

import re

import pytest

from svcdns.sources.label_selectors import check_label_selector, label_keys, matcher


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "!a",
        "a=b",
        "a==b",
        "a!=b",
        "a=",
        "a in (b)",
        "a in (b, c)",
        "a notin (b,c)",
        "x.y/a=b",
        " a = b , !c ",
        "a-b.c_d=E-1",
    ],
)
def test_accepts(text: str) -> None:
    """The Kubernetes documentation has these forms."""
    check_label_selector(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("a b", "at 'a b'", id="two words"),
        pytest.param("a in b", "at 'a in b'", id="no parentheses"),
        pytest.param("a,", "nothing after the last comma", id="comma"),
        pytest.param("-a", "'-a' is not a label name", id="name"),
        pytest.param("X/a", "'X' is not a DNS name", id="prefix"),
        pytest.param("a=-b", "'-b' is not a label value", id="value"),
        pytest.param(f"a={'b' * 64}", "is not a label value", id="long value"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    """The error is one line that shows the wrong part."""
    with pytest.raises(ValueError, match=re.escape(error)):
        check_label_selector(text)


# -- matching, as at an API server

LABELS = {"app": "web", "tier": "front", "example.com/kind": ""}


@pytest.mark.parametrize(
    ("selector", "met"),
    [
        pytest.param("", True, id="empty"),
        pytest.param("app=web", True, id="equal"),
        pytest.param("app == web", True, id="equal-twice"),
        pytest.param("app=db", False, id="not-equal"),
        pytest.param("app!=db", True, id="differs"),
        pytest.param("app!=web", False, id="does-not-differ"),
        pytest.param("nobody!=x", True, id="a-missing-label-differs"),
        pytest.param("nobody=x", False, id="a-missing-label-is-not-equal"),
        pytest.param("example.com/kind=", True, id="empty-value"),
        pytest.param("nobody=", False, id="missing-is-not-empty"),
        pytest.param("app in (db, web)", True, id="in"),
        pytest.param("app in (db)", False, id="not-in"),
        pytest.param("app notin (db,x)", True, id="notin"),
        pytest.param("nobody notin (db)", True, id="a-missing-label-is-notin"),
        pytest.param("app", True, id="there"),
        pytest.param("nobody", False, id="not-there"),
        pytest.param("!nobody", True, id="missing"),
        pytest.param("! app", False, id="not-missing"),
        pytest.param("app in (web, db),tier=front, !nobody", True, id="all"),
        pytest.param("app in (web, db),tier=back", False, id="not-all"),
    ],
)
def test_selectors_match_labels(selector: str, met: bool) -> None:
    """A selector may compare labels, require one of several values, and require a label. Commas join terms."""
    assert matcher(selector)(LABELS) is met


@pytest.mark.parametrize(
    ("selector", "keys"),
    [
        pytest.param("", set(), id="empty"),
        pytest.param("app=web,tier!=x", {"app", "tier"}, id="equality"),
        pytest.param("app in (web, db), example.com/kind notin (a)", {"app", "example.com/kind"}, id="sets"),
        pytest.param("a, !b", {"a", "b"}, id="presence"),
    ],
)
def test_the_keys_of_a_selector(selector: str, keys: set[str]) -> None:
    assert label_keys(selector) == keys
