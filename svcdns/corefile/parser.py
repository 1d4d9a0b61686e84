"""Parses the tokens of a Corefile into server blocks (docs/behaviour/corefile.md#server-blocks).

The parser handles keys, directives, snippets, imports and environment variables. It works line by line, and replaces an
`import` line by the imported lines. Each imported line keeps the names of the snippets and files that it was imported
through, so that an import loop is found. Each token keeps its position in its own file. `import` is the only directive
whose meaning the parser knows.
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from svcdns.corefile.blocks import Corefile, Directive, Position, ServerBlock, ServerKey, Token
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.keys import server_keys
from svcdns.corefile.lexer import tokens

MAX_SNIPPET_IMPORTS: Final = 10_000
MAX_FILE_IMPORTS: Final = 100_000
MAX_NESTING: Final = 50
"""The largest depth of braces within braces of a server block. No plugin needs more than three levels."""

_PERCENT: Final = re.compile(r"\{%([^}%]+)%\}")
_DOLLAR: Final = re.compile(r"\{\$([^}]+)\}")
_ARGUMENT: Final = re.compile(r"\{args\[(\d+)\]\}")


class _Line(NamedTuple):
    """The tokens of one line, and the names of the snippets and files that the line was imported through."""

    tokens: tuple[Token, ...]
    through: tuple[str, ...] = ()


def parse(text: str, path: str, *, environ: Mapping[str, str], default_port: int = 53) -> Corefile:
    """Returns the Corefile that `text` contains. Raises CorefileError.

    `path` is the name of the file in error messages, and imports are relative to its folder. Reads the imported files,
    but not `path` itself.
    """
    parser = _Parser(path, environ, default_port)
    blocks = parser.run(text)
    digest = hashlib.sha512(msgspec.json.encode(blocks)).hexdigest()
    return Corefile(path, blocks, tuple(parser.warnings), digest)


class _Parser:
    def __init__(self, path: str, environ: Mapping[str, str], default_port: int) -> None:
        self.path, self.environ, self.default_port = path, environ, default_port
        self.lines: deque[_Line] = deque()
        self.snippets: dict[str, list[_Line]] = {}
        self.warnings: list[str] = []
        self.snippet_imports = self.file_imports = 0
        self.last = Position(path, 1, 1)

    def run(self, text: str) -> tuple[ServerBlock, ...]:
        self.lines.extend(_Line(line) for line in _lines(tokens(text, self.path)))
        blocks: list[ServerBlock] = []
        while self.lines:
            line = self._take()
            if _is_import(line):
                self._import(line)
                continue
            keys, braced = self._keys(line)
            if _is_snippet(keys):
                self._define(keys[0], braced)
                continue
            directives = self._directives(braced, 1)
            blocks.append(ServerBlock(self._server_keys(keys), directives))
        return tuple(blocks)

    def _take(self) -> _Line:
        line = self.lines.popleft()
        self.last = line.tokens[-1].position
        return line

    # -- keys

    def _keys(self, line: _Line) -> tuple[list[Token], Token | None]:
        """Returns the keys that begin on this line, and the brace that opens their block.

        The brace is None for a block without braces.
        """
        keys: list[Token] = []
        while True:
            words = line.tokens
            brace = words[-1] if _is(words[-1], "{") else None
            for word in words[:-1] if brace else words:
                if _is(word, "{") or _is(word, "}"):
                    raise CorefileError(word.position, f"'{word.text}' where a zone was expected")
                keys += self._split(word)
            more = bool(words[: -1 if brace else None]) and words[-2 if brace else -1].text.endswith(",")
            if brace:
                if more:
                    raise CorefileError(brace.position, "another zone was expected behind the comma, found '{'")
                break
            if not more:
                if self.lines and len(self.lines[0].tokens) == 1 and _is(self.lines[0].tokens[0], "{"):
                    brace = self._take().tokens[0]
                break
            if not self.lines:
                raise CorefileError(
                    words[-1].position, "another zone was expected behind the comma, found the end of the file"
                )
            line = self._take()
        if not keys:
            raise CorefileError(line.tokens[0].position, "a zone was expected before '{'")
        return keys, brace

    def _split(self, word: Token) -> list[Token]:
        """Returns the keys in one word, which may hold several keys with commas between them."""
        text = self._substitute(word)
        return [Token(part, word.position, word.quoted) for part in text.split(",") if part]

    def _server_keys(self, keys: list[Token]) -> tuple[ServerKey, ...]:
        return tuple(key for token in keys for key in server_keys(token, self.default_port, self.warnings))

    # -- snippets and imports

    def _define(self, key: Token, braced: Token | None) -> None:
        name = key.text[1:-1]
        if name in self.snippets:
            raise CorefileError(key.position, f"snippet '{name}' is defined already; each name may be defined once")
        if braced is None:
            raise CorefileError(key.position, f"'{{' was expected behind snippet '({name})'")
        body: list[_Line] = []
        depth = 1
        while True:
            if not self.lines:
                raise CorefileError(braced.position, "'{' without its end; a line with '}' was expected")
            line = self._take()
            if len(line.tokens) == 1 and _is(line.tokens[0], "}"):
                depth -= 1
                if not depth:
                    break
            elif _is(line.tokens[-1], "{"):
                depth += 1
            body.append(line)
        self.snippets[name] = body

    def _import(self, line: _Line) -> None:
        word, *arguments = line.tokens
        if not arguments:
            raise CorefileError(
                word.position,
                "Wrong argument count or unexpected line ending after 'import'; a snippet or file was expected",
            )
        target = self._substitute(arguments[0])
        if not target:
            raise CorefileError(arguments[0].position, "import of nothing; a snippet or file was expected")
        if target in self.snippets:
            self._import_snippet(target, arguments, line)
        elif len(arguments) > 1:
            raise CorefileError(
                arguments[1].position,
                f"'{arguments[1].text}' behind the file to import; only a snippet takes arguments",
            )
        else:
            self._import_files(target, arguments[0], line)

    def _import_snippet(self, name: str, arguments: list[Token], line: _Line) -> None:
        if f"({name})" in line.through:
            raise CorefileError(arguments[0].position, f"snippet '{name}' imports itself")
        self.snippet_imports += 1
        if self.snippet_imports > MAX_SNIPPET_IMPORTS:
            raise CorefileError(arguments[0].position, f"maximum snippet import depth ({MAX_SNIPPET_IMPORTS}) exceeded")
        values = [self._substitute(word) for word in arguments[1:]]
        through = (*line.through, f"({name})")
        body = [
            _Line(tuple(_with_arguments(t, values) for t in inner.tokens), through) for inner in self.snippets[name]
        ]
        self.lines.extendleft(reversed(body))

    def _import_files(self, pattern: str, token: Token, line: _Line) -> None:
        if pattern.count("*") > 1 or pattern.count("?") > 1 or "[" in pattern or "]" in pattern:
            raise CorefileError(
                token.position, f"import pattern '{pattern}'; at most one '*' and one '?', and no brackets, are allowed"
            )
        base = Path(token.position.file).parent
        wanted = str(base / pattern)
        if "*" in pattern or "?" in pattern:
            found = sorted(glob.glob(wanted))  # noqa: PTH207 - the pattern may be absolute
            if not found:
                self.warnings.append(f"No files matching import glob pattern: {pattern}")
        elif Path(wanted).is_file():
            found = [wanted]
        else:
            raise CorefileError(token.position, f"File to import not found: {pattern}")
        lines: list[_Line] = []
        for path in found:
            if path in line.through or path == self.path:
                raise CorefileError(token.position, f"file '{path}' imports itself")
            self.file_imports += 1
            if self.file_imports > MAX_FILE_IMPORTS:
                raise CorefileError(token.position, f"maximum file import depth ({MAX_FILE_IMPORTS}) exceeded")
            lines += [_Line(inner, (*line.through, path)) for inner in _lines(tokens(_read(path, token), path))]
        self.lines.extendleft(reversed(lines))

    # -- directives

    def _directives(self, brace: Token | None, level: int) -> tuple[Directive, ...]:
        """Returns the directives up to the `}` that matches `brace`.

        If `brace` is None, returns all directives up to the end of the file.
        """
        if brace is not None and level > MAX_NESTING:
            raise CorefileError(brace.position, f"blocks nested more than {MAX_NESTING} deep")
        out: list[Directive] = []
        while self.lines:
            line = self._take()
            first = line.tokens[0]
            if _is(first, "}"):
                if len(line.tokens) > 1:
                    raise CorefileError(
                        line.tokens[1].position, f"'{line.tokens[1].text}' behind '}}'; a line of its own was expected"
                    )
                if brace is None:
                    raise CorefileError(first.position, "'}' without a '{' before it")
                return tuple(out)
            if _is_import(line):
                self._import(line)
                continue
            out.append(self._directive(line, level))
        if brace is not None:
            raise CorefileError(brace.position, "'{' without its end; a line with '}' was expected")
        return tuple(out)

    def _directive(self, line: _Line, level: int) -> Directive:
        words = line.tokens
        brace = words[-1] if _is(words[-1], "{") else None
        if brace is not None:
            words = words[:-1]
        if not words:
            raise CorefileError(line.tokens[0].position, "a directive was expected before '{'")
        for word in words:
            if _is(word, "{"):
                raise CorefileError(word.position, "'{' inside a line; it must be the last word of its line")
            if _is(word, "}"):
                raise CorefileError(word.position, "'}' inside a line; a line of its own was expected")
        name, *arguments = (self._substituted(word) for word in words)
        body = self._directives(brace, level + 1) if brace is not None else None
        return Directive(name, tuple(arguments), body)

    # -- environment

    def _substituted(self, word: Token) -> Token:
        text = self._substitute(word)
        return word if text == word.text else Token(text, word.position, word.quoted)

    def _substitute(self, word: Token) -> str:
        """Returns the word with environment variables replaced by their values.

        `{%NAME%}` is replaced first, then `{$NAME}` (docs/behaviour/corefile.md#environment-variables).
        """
        if "{" not in word.text:
            return word.text
        text = _PERCENT.sub(lambda found: self.environ.get(found[1], ""), word.text)
        return _DOLLAR.sub(lambda found: self.environ.get(found[1], ""), text)


def _lines(words: list[Token]) -> list[tuple[Token, ...]]:
    """Returns the tokens of each line.

    A quoted token may contain line breaks. Words on the line where it ends belong to the same line.
    """
    out: list[list[Token]] = []
    below = -1
    for word in words:
        if word.position.line > below or not out:
            out.append([])
        out[-1].append(word)
        below = word.position.line + word.text.count("\n")
    return [tuple(line) for line in out]


def _is(word: Token, text: str) -> bool:
    return word.text == text and not word.quoted


def _is_import(line: _Line) -> bool:
    return _is(line.tokens[0], "import")


def _is_snippet(keys: list[Token]) -> bool:
    return len(keys) == 1 and keys[0].text.startswith("(") and keys[0].text.endswith(")")


def _with_arguments(word: Token, values: list[str]) -> Token:
    """Returns a word of a snippet, with each `{args[N]}` replaced by an argument of the import."""
    if "{args[" not in word.text:
        return word

    def value(found: re.Match[str]) -> str:
        number = int(found[1])
        if number >= len(values):
            raise CorefileError(
                word.position, f"{found[0]} in a snippet that was imported with {len(values)} arguments"
            )
        return values[number]

    return Token(_ARGUMENT.sub(value, word.text), word.position, word.quoted)


def _read(path: str, token: Token) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CorefileError(token.position, f"cannot read '{path}': {error}") from error
