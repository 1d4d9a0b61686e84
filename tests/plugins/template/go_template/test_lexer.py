"""Splitting a template into text and actions."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugins.template.go_template.lexer import TemplateError, pieces


def split(text: str) -> list[Any]:
    """Returns plain text, and the texts of the tokens of each action."""
    return [piece if isinstance(piece, str) else [token.text for token in piece[:-1]] for piece in pieces(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a b", ["a b"], id="plain"),
        pytest.param("", [], id="nothing"),
        pytest.param("a {{.B}} c", ["a ", [".B"], " c"], id="an action"),
        pytest.param("a {{- .B -}} c", ["a", [".B"], "c"], id="trimmed"),
        pytest.param("a \n{{- 3}}{{-3}}", ["a", ["3"], ["-3"]], id="a minus is not a trim marker"),
        pytest.param("a {{/* b }} c */}} d", ["a ", " d"], id="a comment"),
        pytest.param("a {{- /* b */ -}} d", ["a", "d"], id="a trimmed comment"),
        pytest.param("{{ $x := index .A.B \"}}\" `c` | f (g 'x') }}", [
            ["$x", ":=", "index", ".A", ".B", '"}}"', "`c`", "|", "f", "(", "g", "'x'", ")"],
        ], id="tokens"),
        pytest.param("} }} {", ["} }} {"], id="braces alone"),
    ],
)  # fmt: skip
def test_pieces(text: str, expected: list[Any]) -> None:
    assert split(text) == expected


def test_literals() -> None:
    (piece,) = pieces('{{ 1 -2 0x1F 1.5 \'A\' "a\\"b" `c\\` . }}')
    assert [token.value for token in piece if not isinstance(token, str)] == [
        1,
        -2,
        31,
        1.5,
        65,
        'a"b',
        "c\\",
        None,
        None,
    ]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{{ .A", id="no end"), pytest.param("{{}}", id="empty"), pytest.param("{{ ~ }}", id="unknown sign"),
        pytest.param("{{/* a", id="open comment"), pytest.param("{{/* a */ .B}}", id="comment and more"),
        pytest.param('{{ "a }}', id="open string"), pytest.param("{{ 'ab' }}", id="two characters"),
        pytest.param("{{ 08 }}", id="not a number"),
    ],
)  # fmt: skip
def test_invalid_templates(text: str) -> None:
    with pytest.raises(TemplateError):
        split(text)
