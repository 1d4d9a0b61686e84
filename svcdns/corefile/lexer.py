"""Divides the text of a Corefile into tokens (docs/behaviour/corefile.md#lexing).

A word that begins with a double quote ends at the next double quote, even on a later line. Inside the quotes, `\\"` is
a quote character, and any other backslash is an ordinary character. Outside quotes, `#` begins a comment, even inside a
word. A byte-order mark at the start, and carriage returns outside quotes, are ignored.
"""

from __future__ import annotations

from typing import Final

from svcdns.corefile.blocks import Position, Token
from svcdns.corefile.errors import CorefileError

_SPACE: Final = frozenset("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | {
    chr(c) for c in range(0x2000, 0x200B)
}
"""White space as Unicode's property White_Space defines it, which Go uses. Python's `isspace` has four more."""


def tokens(text: str, file: str, warnings: list[str] | None = None) -> list[Token]:
    """Returns all tokens of the text. `file` is the file name in their positions.

    Adds a log line to `warnings` for each word that CoreDNS probably reads differently than its author meant. If
    `warnings` is None, raises CorefileError for an unclosed quote.
    """
    return _Lexer(text.removeprefix("\ufeff"), file, warnings).run()


class _Lexer:
    def __init__(self, text: str, file: str, warnings: list[str] | None) -> None:
        self.text, self.file, self.warnings = text, file, warnings
        self.at, self.line, self.line_start = 0, 1, 0
        self.out: list[Token] = []

    def run(self) -> list[Token]:
        text, end = self.text, len(self.text)
        while self.at < end:
            char = text[self.at]
            if char == "\n":
                self.at += 1
                self.line, self.line_start = self.line + 1, self.at
            elif char in _SPACE:
                self.at += 1
            elif char == "#":
                self._comment()
            elif char == '"':
                self._quoted()
            else:
                self._word()
        return self.out

    def _position(self) -> Position:
        return Position(self.file, self.line, self.at - self.line_start + 1)

    def _warn(self, position: Position, text: str) -> None:
        if self.warnings is not None:
            self.warnings.append(f"{position.file}:{position.line}:{position.column} - {text}")

    def _comment(self) -> None:
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end

    def _word(self) -> None:
        position, start = self._position(), self.at
        text = self.text
        while self.at < len(text) and text[self.at] != "#" and (text[self.at] not in _SPACE or text[self.at] == "\r"):
            self.at += 1
        self.out.append(Token(text[start : self.at].replace("\r", ""), position))
        if self.at < len(text) and text[self.at] == "#":
            self._comment_in_word()

    def _comment_in_word(self) -> None:
        """Skips a comment that begins inside a word. As in CoreDNS, the comment ends at the next white space."""
        begin = self._position()
        text = self.text
        while self.at < len(text) and (text[self.at] not in _SPACE or text[self.at] == "\r"):
            self.at += 1
        rest = text[self.at :].partition("\n")[0].strip()
        if rest and not rest.startswith("#"):
            self._warn(begin, "a comment inside a word ends at the next space; a space was expected before '#'")

    def _quoted(self) -> None:
        position = self._position()
        self.at += 1
        parts: list[str] = []
        while True:
            if self.at >= len(self.text):
                if self.warnings is None:
                    raise CorefileError(position, 'quote without its end; a closing " was expected')
                self._warn(position, "quote without its end; the word ends with the file")
                if not parts:
                    return
                break
            char = self.text[self.at]
            self.at += 1
            if char == '"':
                break
            if char == "\\" and self.at < len(self.text):
                escaped = self.text[self.at]
                self.at += 1
                char = escaped if escaped == '"' else char + escaped
            if char.endswith("\n"):
                self.line, self.line_start = self.line + 1, self.at
            parts.append(char)
        self.out.append(Token("".join(parts), position, quoted=True))
