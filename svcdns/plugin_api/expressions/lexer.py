"""Splits the text of an expression into tokens."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from svcdns.plugin_api.expressions.errors import ExpressionError

_TOKEN: Final = re.compile(
    r"""
      (?P<space>\s+|//[^\n]*|/\*.*?\*/)
    | (?P<number>0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|(?:\d[\d_]*)?\.\d[\d_]*(?:[eE][+-]?\d+)?|\d[\d_]*(?:[eE][+-]?\d+)?)
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)
    | (?P<name>[A-Za-z_$][A-Za-z0-9_$]*)
    | (?P<operator>\?\?|\?\.|\?|\.\.|\*\*|==|!=|<=|>=|&&|\|\||[-+*/%^<>!|.,:;()\[\]{}\#])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)


class Token(NamedTuple):
    """A token of an expression.

    `kind` is number, string, name, operator or end. `text` is the token as written. `value` is the value of a literal.
    """

    kind: str
    text: str
    value: Any = None


def tokens(text: str) -> list[Token]:
    """Returns the tokens of a text. The last one has the kind `end`. Raises ExpressionError."""
    out, at = [], 0
    while at < len(text):
        # a range such as 1..3 is two numbers, not "1." and ".3"
        found = re.compile(r"\d[\d_]*(?=\.\.)").match(text, at)
        if found is not None:
            out.append(Token("number", found[0], int(found[0])))
            at = found.end()
            continue
        found = _TOKEN.match(text, at)
        if found is None:
            raise ExpressionError(f"'{text[at : at + 10]}' cannot be read")
        at = found.end()
        kind = str(found.lastgroup)
        if kind != "space":
            out.append(Token(kind, found[0], _value(kind, found[0])))
    out.append(Token("end", "the end"))
    return out


def _value(kind: str, text: str) -> Any:
    if kind == "number":
        return number(text)
    return unquoted(text) if kind == "string" else None


def number(text: str) -> int | float:
    """Returns the value of a number in Go's syntax. Raises ExpressionError."""
    try:
        if text[:1] == "0" and text.isdecimal():
            return int(text, 8)
        return (
            int(text, 0) if text[:2].lower() in ("0x", "0o", "0b") or text.replace("_", "").isdecimal() else float(text)
        )
    except ValueError:
        raise ExpressionError(f"'{text}' is not a number") from None


def unquoted(text: str) -> str:
    """Returns the value of a quoted string. There are no escapes between backquotes."""
    if text[0] == "`":
        return text[1:-1]

    def character(found: re.Match[str]) -> str:
        escape = found[1]
        if escape[0] in "xuU" and len(escape) > 1:
            return chr(int(escape[1:], 16))
        if len(escape) == 3:
            return chr(int(escape, 8))
        return _ESCAPES.get(escape, escape)

    return _ESCAPE.sub(character, text[1:-1])
