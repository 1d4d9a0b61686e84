"""Divides the text of a Corefile into tokens (docs/behaviour/corefile.md#lexing).

A word that begins with a double quote ends at the next double quote, even on a later line. Inside the quotes, `\\"` is
a quote character, and there is no other escape. Outside quotes, `#` begins a comment, even inside a word. A byte-order
mark at the start and all carriage returns are ignored.
"""

from __future__ import annotations

from svcdns.corefile.blocks import Position, Token
from svcdns.corefile.errors import CorefileError


def tokens(text: str, file: str) -> list[Token]:
    """Returns all tokens of the text. `file` is the name for positions. Raises CorefileError for an unclosed quote."""
    return _Lexer(text.removeprefix("\ufeff"), file).run()


class _Lexer:
    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file
        self.at, self.line, self.line_start = 0, 1, 0
        self.out: list[Token] = []

    def run(self) -> list[Token]:
        text, end = self.text, len(self.text)
        while self.at < end:
            char = text[self.at]
            if char == "\n":
                self.at += 1
                self.line, self.line_start = self.line + 1, self.at
            elif char.isspace():
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

    def _comment(self) -> None:
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end

    def _word(self) -> None:
        position, start = self._position(), self.at
        while self.at < len(self.text) and not self.text[self.at].isspace() and self.text[self.at] != "#":
            self.at += 1
        self.out.append(Token(self.text[start : self.at].replace("\r", ""), position))

    def _quoted(self) -> None:
        position = self._position()
        self.at += 1
        parts: list[str] = []
        while True:
            if self.at >= len(self.text):
                raise CorefileError(position, 'quote without its end; a closing " was expected')
            char = self.text[self.at]
            self.at += 1
            if char == '"':
                break
            if char == "\\" and self.text[self.at : self.at + 1] == '"':
                char = '"'
                self.at += 1
            elif char == "\n":
                self.line, self.line_start = self.line + 1, self.at
            if char != "\r":
                parts.append(char)
        self.out.append(Token("".join(parts), position, quoted=True))
