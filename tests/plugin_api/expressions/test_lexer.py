"""Tokens of expressions."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugin_api.expressions.errors import ExpressionError
from svcdns.plugin_api.expressions.lexer import number, tokens, unquoted


def test_tokens() -> None:
    """White space and comments are dropped."""
    found = tokens("a.b >= 1..3 // rest\n ?? `x` /* y */ #")
    assert [token.text for token in found] == ["a", ".", "b", ">=", "1", "..", "3", "??", "`x`", "#", "the end"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("12", 12, id="decimal"),
        pytest.param("1_000", 1000, id="with underscores"),
        pytest.param("0x1F", 31, id="hexadecimal"),
        pytest.param("0b11", 3, id="binary"),
        pytest.param("017", 15, id="octal"),
        pytest.param("1.5", 1.5, id="a fraction"),
        pytest.param(".5e1", 5.0, id="an exponent"),
    ],
)
def test_numbers(text: str, value: Any) -> None:
    """Numbers have Go's syntax."""
    assert number(text) == value
    assert tokens(text)[0].value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param('"a\\"b\\n"', 'a"b\n', id="double quotes"),
        pytest.param("'it\\'s'", "it's", id="single quotes"),
        pytest.param("`a\\n`", "a\\n", id="without escapes"),
        pytest.param('"\\x41\\u00e9\\101\\\\"', "AéA\\", id="numeric escapes"),
    ],
)
def test_strings(text: str, value: str) -> None:
    """Escapes are read in the kinds of quotes that permit them."""
    assert unquoted(text) == value


@pytest.mark.parametrize("text", ["'open", "~", "@", "08"])
def test_invalid_tokens(text: str) -> None:
    with pytest.raises(ExpressionError):
        tokens(text)
