"""Formats a Corefile: four spaces for each level, and one space between words. Comments and quotes stay."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from svcdns.corefile.blocks import Token
from svcdns.corefile.lexer import tokens

INDENT: Final = "    "


def formatted(text: str, file: str) -> str:
    """Returns the text of a Corefile in the usual form, with the same words on the same lines.

    Empty lines at the beginning and the end are removed, and several empty lines become one. Raises CorefileError for a
    quote without its end.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    lines = text.split("\n")
    by_line: dict[int, list[Token]] = defaultdict(list)
    inside: set[int] = set()
    for word in tokens(text, file):
        by_line[word.position.line].append(word)
        inside.update(range(word.position.line + 1, word.position.line + word.text.count("\n") + 1))
    out: list[str] = []
    depth = 0
    for number, line in enumerate(lines, 1):
        words = by_line.get(number, [])
        if number in inside or any("\n" in word.text for word in words):
            out.append(line)  # a quoted word has several lines: nothing in it may change
            depth += _change(words)
            continue
        leading = next((place for place, word in enumerate(words) if not _is(word, "}")), len(words))
        level = max(0, depth - leading)
        depth = max(0, depth + _change(words))
        shown = _line(line, words)
        if shown or (out and out[-1]):
            out.append(INDENT * level + shown if shown else "")
    return "\n".join(out).rstrip("\n") + "\n"


def _is(word: Token, brace: str) -> bool:
    return word.text == brace


def _change(words: list[Token]) -> int:
    return sum(_is(word, "{") - _is(word, "}") for word in words)


def _source(line: str, word: Token) -> str:
    """Returns the word as it is written in the line, with its quotes."""
    begin = word.position.column - 1
    if not word.quoted:
        return word.text
    end = begin + 1
    while line[end] != '"':
        end += 2 if line[end : end + 2] == '\\"' else 1
    return line[begin : end + 1]


def _line(line: str, words: list[Token]) -> str:
    """Returns the words of the line with one space between them, and the comment at its end.

    A comment inside a word stays unchanged.
    """
    out, end = "", 0
    for word in words:
        begin = word.position.column - 1
        gap = line[end:begin]
        out += (gap if "#" in gap else " " * bool(out)) + _source(line, word)
        end = begin + len(_source(line, word))
    rest = line[end:]
    at = rest.find("#")
    if at < 0:
        return out
    gap = rest[:at] if rest[:at].strip(" ") == "" else " "  # comments that are in one column stay so
    return out + (gap if out else "") + rest[at:].strip()
