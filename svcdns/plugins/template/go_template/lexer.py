"""Splits a template into plain text and actions, and each action into tokens.

The rules are those of Go's `text/template`, "Text and spaces" and "Arguments".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from svcdns.errors import SvcdnsError
from svcdns.plugin_api.expressions.errors import ExpressionError
from svcdns.plugin_api.expressions.lexer import number, unquoted

_TOKEN: Final = re.compile(
    r"""
      (?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?))(?![\w.])
    | (?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
    | (?P<character>'(?:[^'\\\n]|\\.[^']*)')
    | (?P<field>\.[A-Za-z_]\w*)
    | (?P<dot>\.)
    | (?P<variable>\$\w*)
    | (?P<name>[A-Za-z_]\w*)
    | (?P<operator>:=|[=|(),])
    """,
    re.VERBOSE,
)
_SPACE: Final = " \t\r\n"


class Token(NamedTuple):
    """A token of an action.

    `kind` is the name of a group in the pattern _TOKEN, or `end`. `text` is the token as written; `value` is the value
    of a literal. `spaced` is true if white space precedes the token.
    """

    kind: str
    text: str
    value: Any
    spaced: bool


Piece = str | list[Token]
"""A piece of a template: plain text, or the tokens of an action. The last token is an `end`."""


def pieces(text: str) -> Iterator[Piece]:
    """Yields the pieces of a template in order. Raises TemplateError.

    Comments are left out, and so is white space that trim markers remove.
    """
    at, trim = 0, False
    while True:
        start = text.find("{{", at)
        plain = text[at:] if start < 0 else text[at:start]
        if trim:
            plain = plain.lstrip(_SPACE)
        if start < 0:
            if plain:
                yield plain
            return
        inner = start + 2
        if text[inner : inner + 1] == "-" and text[inner + 1 : inner + 2] in tuple(_SPACE):
            plain, inner = plain.rstrip(_SPACE), inner + 2
        if plain:
            yield plain
        tokens, at, trim = _action(text, inner)
        if tokens:
            yield tokens


def _action(text: str, at: int) -> tuple[list[Token], int, bool]:
    """Parses the action at offset `at`.

    Returns the tokens (none for a comment), the offset of the action's end, and whether the white space after it is
    trimmed.
    """
    found: list[Token] = []
    if text.startswith("/*", at):
        end = text.find("*/", at)
        if end < 0:
            raise TemplateError("comment without its end")
        at = end + 2
        trim = _trims(text, at)
        at += 2 if trim else 0
        if not text.startswith("}}", at):
            raise TemplateError("a comment is not the only content of its action")
        return found, at + 2, trim
    while True:
        before = at
        while text[at : at + 1] and text[at] in _SPACE:
            at += 1
        if text.startswith("}}", at):
            trim, end = False, at + 2
        elif at > before and text.startswith("-}}", at):
            trim, end = True, at + 3
        else:
            token, at = _token(text, at, spaced=at > before)
            found.append(token)
            continue
        if not found:
            raise TemplateError("empty action")
        found.append(Token("end", "}}", None, spaced=True))
        return found, end, trim


def _trims(text: str, at: int) -> bool:
    return text[at : at + 1] in tuple(_SPACE) and text[at + 1 : at + 2] == "-"


def _token(text: str, at: int, *, spaced: bool) -> tuple[Token, int]:
    found = _TOKEN.match(text, at)
    if found is None:
        raise TemplateError("action without its end" if at >= len(text) else f"'{text[at : at + 10]}' cannot be read")
    kind, word = str(found.lastgroup), found[0]
    value: Any = None
    try:
        if kind == "number":
            value = -number(word[1:]) if word[0] == "-" else number(word.lstrip("+"))
        elif kind == "string":
            value = unquoted(word)
        elif kind == "character":
            kind, value = "number", ord(unquoted(word))
    except (ExpressionError, TypeError) as error:
        raise TemplateError(f"{word} is not a literal") from error
    return Token(kind, word, value, spaced), found.end()


class TemplateError(SvcdnsError):
    """Raised if the text is not a valid template."""
