"""The syntax of label selectors."""

from __future__ import annotations

import re

import pytest

from svcdns.sources.label_selectors import check_label_selector


@pytest.mark.parametrize(
    "text",
    ["", "a", "!a", "a=b", "a==b", "a!=b", "a=", "a in (b)", "a in (b, c)", "a notin (b,c)", "x.y/a=b", " a = b , !c ", "a-b.c_d=E-1"],
)
def test_takes(text: str) -> None:
    """Each form of the Kubernetes documentation."""
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
    """In one line that names the position."""
    with pytest.raises(ValueError, match=re.escape(error)):
        check_label_selector(text)
