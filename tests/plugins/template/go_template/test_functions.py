"""The functions that templates can call."""

from __future__ import annotations

import pytest

from svcdns.plugins.template.go_template import RenderError, Struct, parse_template

DATA = Struct(T="abc", L=["x", "y"], M={"k": "v"}, Missing={})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("not 0", "true"), ("eq 1 2 1", "true"), ("eq `a` `b`", "false"), ("ne 1 2", "true"), ("lt 1 2", "true"), ("le 2 2", "true"),
        ("gt `b` `a`", "true"), ("ge 1.5 2.5", "false"), ("eq nil nil", "true"), ("eq .Missing.x nil", "false"), ("index .T 1", "98"),
        ("index .L 1", "y"), ("index .M `k`", "v"), ("slice .T 1", "bc"), ("slice .T 1 2", "b"), ("slice .L", "[x y]"), ("len .T", "3"),
        ("len .L", "2"), ("len `é`", "2"), ("print 1 2 `a` 3", "1 2a3"), ("println 1 `a`", "1 a\n"), ("printf `%03d` 7", "007"),
        ("html `<a&\"'>`", "&lt;a&amp;&#34;&#39;&gt;"), ("urlquery `a b/c`", "a+b%2Fc"), ("parseInt `12` 10 64", "12"),
        ("parseInt `ff` 16 64", "255"), ("parseInt `0x1f` 0 8", "31"),
    ],
    ids=lambda value: value if " " in value else "",
)  # fmt: skip
def test_functions(text: str, expected: str) -> None:
    assert parse_template("{{ " + text + " }}").render(DATA) == expected


@pytest.mark.parametrize(
    "text",
    [
        "eq 1 `1`", "eq 1", "eq .L .L", "lt 1 `1`", "lt true false", "lt .L .L", "index .L `a`", "index .L -1", "index 1 1", "slice .T 2 1",
        "slice .T 9", "slice 1", "slice .T 0 1 2", "len 1", "not", "parseInt `-1` 10 64", "parseInt `x` 10 64", "parseInt `256` 10 8",
        "parseInt 1 10 64", "parseInt `` 10 64", "parseInt `1_0` 10 64", "printf",
    ],
)  # fmt: skip
def test_invalid_arguments(text: str) -> None:
    with pytest.raises(RenderError):
        parse_template("{{ " + text + " }}").render(DATA)
