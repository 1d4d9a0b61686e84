"""Parses the tokens of a Corefile into server blocks (docs/behaviour/corefile.md#server-blocks).

An `import` line is replaced by the imported lines. Each imported line keeps the names of its snippets and files, so
that an import loop is found. Each token keeps its position in its own file.
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
from svcdns.corefile.errors import CorefileError, UnclosedError
from svcdns.corefile.keys import server_keys
from svcdns.corefile.lexer import tokens

MAX_SNIPPET_IMPORTS: Final = 10_000
MAX_FILE_IMPORTS: Final = 100_000
MAX_NESTING: Final = 50
"""Braces within braces of a server block. No plugin takes more than three levels."""
OPTIONS: Final = 2
"""The level of a directive's options; the directives of a server block are on level 1."""

MAX_REPLACEMENTS: Final = 1000
"""The most replacements of variables in a word. Values may have variables in turn, even of the same name."""

_ARGUMENT: Final = re.compile(r"\{args\[(\d+)\]\}")


class _Line(NamedTuple):
    """The tokens of one line, and the names of the snippets and files through which the line was imported."""

    tokens: tuple[Token, ...]
    through: tuple[str, ...] = ()


def parse(text: str, path: str, *, environ: Mapping[str, str], default_port: int = 53) -> Corefile:
    """Returns the Corefile in `text`. Raises CorefileError.

    `path` is the name of the file in error messages. Imports are relative to its folder. Imported files are read, but
    not `path` itself.
    """
    parser = _Parser(path, environ, default_port)
    try:
        blocks = parser.run(text)
    except CorefileError:
        tokens(text, path)  # an unclosed quote is the better explanation, if there is one
        raise
    digest = hashlib.sha512(msgspec.json.encode(blocks)).hexdigest()
    return Corefile(path, blocks, tuple(parser.warnings), digest)


class _Parser:
    def __init__(self, path: str, environ: Mapping[str, str], default_port: int) -> None:
        self.path, self.environ, self.default_port = path, environ, default_port
        self.lines: deque[_Line] = deque()
        self.snippets: dict[str, list[_Line]] = {}
        self.warnings: list[str] = []
        self.snippet_imports = self.file_imports = 0
        self.last = Token("", Position(path, 1, 1))

    def run(self, text: str) -> tuple[ServerBlock, ...]:
        self.lines.extend(_Line(line) for line in _lines(tokens(text, self.path, self.warnings)))
        blocks: list[ServerBlock] = []
        while self.lines:
            line = self._take()
            if _is_import(line):
                self._import(line)
                continue
            if _is(line.tokens[0], "}"):
                self._stray(line)
                continue
            keys, braced = self._keys(line)
            if _is_snippet(keys):
                self._define(keys[0], braced)
                continue
            directives = self._directives(braced, 1, attached=bool(keys) and _has_brace(keys[-1]))
            if keys:
                blocks.append(ServerBlock(self._server_keys(keys), directives))
            else:
                self._warn(line.tokens[0], "the environment leaves no zone, the server block is not served")
        return tuple(blocks)

    def _take(self) -> _Line:
        line = self.lines.popleft()
        self.last = line.tokens[-1]
        return line

    def _put_back(self, tokens: tuple[Token, ...], line: _Line) -> None:
        """Puts `tokens`, the rest of `line`, back as the next line."""
        if tokens:
            self.lines.appendleft(line._replace(tokens=tokens))

    def _warn(self, word: Token, text: str) -> None:
        where = word.position
        self.warnings.append(f"{where.file}:{where.line}:{where.column} - {text}")

    def _stray(self, line: _Line) -> None:
        """Handles a `}` without a `{` before it.

        If the rest of the file consists of such braces, adds a warning, otherwise raises CorefileError.
        """
        if not all(_is(word, "}") for rest in (line, *self.lines) for word in rest.tokens):
            raise CorefileError(line.tokens[0].position, "'}' without a '{' before it")
        for word in line.tokens:
            self._warn(word, "'}' without a '{' before it is ignored")

    # -- keys

    def _keys(self, line: _Line) -> tuple[list[Token], Token | None]:
        """Returns the keys that begin on this line, and the brace that opens their block.

        The brace is None for a block without braces.
        """
        keys: list[Token] = []
        any_word = False
        while True:
            words, brace, rest = _opened(line.tokens)
            for word in words:
                if _is(word, "}"):
                    raise CorefileError(word.position, f"'{word.text}' where a zone was expected")
                keys += self._split(word)
            any_word = any_word or bool(words)
            more = bool(words) and words[-1].text.endswith(",")
            if brace:
                if more:
                    raise CorefileError(brace.position, "another zone was expected behind the comma, found '{'")
                self._put_back(rest, line)
                break
            if not more:
                if self.lines and _is(self.lines[0].tokens[0], "{"):
                    line = self._take()
                    brace = line.tokens[0]
                    self._put_back(line.tokens[1:], line)
                break
            if not self.lines:
                raise CorefileError(
                    words[-1].position, "another zone was expected behind the comma, found the end of the file"
                )
            line = self._take()
        if not any_word:
            raise CorefileError(line.tokens[0].position, "a zone was expected before '{'")
        return keys, brace

    def _split(self, word: Token) -> list[Token]:
        """Returns the keys in one word, which may have several keys with commas between them."""
        text = self._substitute(word)
        parts = [part for part in text.split(",") if part]
        if len(parts) > 1:
            self._warn(word, f"'{text}' has several zones; for CoreDNS it is one, as a space was expected after ','")
        return [Token(part, word.position, word.quoted) for part in parts]

    def _server_keys(self, keys: list[Token]) -> tuple[ServerKey, ...]:
        """Returns the server keys of the words in `keys`.

        A word `KEY{` is left out with a warning, unless it is the only key of the block. CoreDNS reads it as a name
        with a brace, which no query has.
        """
        attached = [token for token in keys if _has_brace(token)]
        for token in attached:
            self._warn(token, f"the '{{' of '{token.text}' belongs to the name; a space was expected before it")
        names = [token for token in keys if token not in attached] or keys
        return tuple(key for token in names for key in server_keys(token, self.default_port, self.warnings))

    # -- snippets and imports

    def _define(self, key: Token, braced: Token | None) -> None:
        name = key.text[1:-1]
        if name in self.snippets:
            raise CorefileError(key.position, f"snippet '{name}' is defined already; each name may be defined once")
        if braced is None:
            raise CorefileError(key.position, f"'{{' was expected behind snippet '({name})'")
        body: list[_Line] = []
        depth = 1
        while depth:
            if not self.lines:
                raise self._unclosed(braced)
            line = self._take()
            end = len(line.tokens)
            for place, word in enumerate(line.tokens):
                depth += _is(word, "{") - _is(word, "}")
                if not depth:
                    end = place
                    break
            if end:
                body.append(line._replace(tokens=line.tokens[:end]))
            self._put_back(line.tokens[end + 1 :], line)
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
        if not values:
            self._warn_literal(name)
        body = [
            _Line(tuple(_with_arguments(t, values) for t in inner.tokens), through) for inner in self.snippets[name]
        ]
        self.lines.extendleft(reversed(body))

    def _warn_literal(self, name: str) -> None:
        for word in (word for inner in self.snippets[name] for word in inner.tokens):
            if _ARGUMENT.search(word.text):
                self._warn(word, f"snippet '{name}' is imported without arguments, '{word.text}' stays as it is")

    def _import_files(self, pattern: str, token: Token, line: _Line) -> None:
        if pattern.count("*") > 1 or pattern.count("?") > 1 or "[" in pattern:
            raise CorefileError(
                token.position, f"import pattern '{pattern}'; at most one '*' and one '?', and no brackets, are allowed"
            )
        base = Path(token.position.file).parent
        wanted = str(base / pattern)
        if "*" in pattern or "?" in pattern:
            # A mounted ConfigMap has the folder `..data` beside its files.
            found = sorted(
                path
                for path in glob.glob(wanted, include_hidden=True)  # noqa: PTH207 - the pattern may be absolute
                if not (Path(path).name.startswith(".") and Path(path).is_dir())
            )
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
            lines += [
                _Line(inner, (*line.through, path)) for inner in _lines(tokens(_read(path, token), path, self.warnings))
            ]
        self.lines.extendleft(reversed(lines))

    # -- directives

    def _directives(self, brace: Token | None, level: int, *, attached: bool = False) -> tuple[Directive, ...]:
        """Returns the directives up to the `}` that belongs to `brace`.

        If `brace` is None, the block has no opening brace of its own: it ends at the next `}` of its level, or at the
        end of the file. `attached` is True if the opening brace is the last character of a key, as in `KEY{`.
        """
        if brace is not None and level > MAX_NESTING:
            raise CorefileError(brace.position, f"blocks nested more than {MAX_NESTING} deep")
        out: list[Directive] = []
        while self.lines:
            line = self._take()
            first = line.tokens[0]
            if _is(first, "}"):
                self._closed(line, level)
                if brace is None and not attached:
                    self._warn(first, "'}' without a '{' before it ends the server block")
                return tuple(out)
            if _is_import(line):
                self._import(line)
                continue
            out.append(self._directive(line, level))
        if brace is not None:
            if level > 1 or not _is(self.last, "}"):
                raise self._unclosed(brace)
            self._warn(brace, "'{' without its end; the server block ends with the file")
        return tuple(out)

    def _unclosed(self, brace: Token) -> UnclosedError:
        """Returns the error for a brace that is never closed. The error is at the last word, as in CoreDNS."""
        where = f"line {brace.position.line}"
        if brace.position.file != self.last.position.file:
            where += f" of {brace.position.file}"
        return UnclosedError(self.last.position, f"the '{{' at {where} has no end; a line with '}}' was expected here")

    def _closed(self, line: _Line, level: int) -> None:
        """Handles the words after a `}`, which are read as the next line.

        Raises CorefileError if they are not allowed here.
        """
        rest = line.tokens[1:]
        if rest and (level == OPTIONS or (level > OPTIONS and not _is(rest[0], "}"))):
            raise CorefileError(rest[0].position, f"'{rest[0].text}' behind '}}'; a line of its own was expected")
        self._put_back(rest, line)

    def _directive(self, line: _Line, level: int) -> Directive:
        words, brace, rest = _opened(line.tokens)
        end = next((place for place, word in enumerate(words) if _is(word, "}")), None)
        if end is not None:
            if level < OPTIONS:
                raise CorefileError(words[end].position, "'}' behind a directive; a line of its own was expected")
            words, brace, rest = words[:end], None, line.tokens[end:]
        if not words:
            raise CorefileError(line.tokens[0].position, "a directive was expected before '{'")
        self._put_back(rest, line)
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
        return _replaced(_replaced(word.text, "{%", "%}", self.environ), "{$", "}", self.environ)


def _replaced(text: str, begin: str, end: str, environ: Mapping[str, str]) -> str:
    """Returns the text with the variables between `begin` and `end` replaced by their values.

    Variables in the values are replaced, too. The text is not changed from a variable without a name on.
    """
    for _ in range(MAX_REPLACEMENTS):
        at = text.find(begin)
        stop = text.find(end, at)
        if at < 0 or stop <= at + len(begin):
            break
        text = text.replace(text[at : stop + len(end)], environ.get(text[at + len(begin) : stop], ""))
    return text


def _lines(words: list[Token]) -> list[tuple[Token, ...]]:
    """Returns the tokens of each line.

    A quoted token may contain line breaks. Words after it belong to the line on which the token begins.
    """
    out: list[list[Token]] = []
    below = -1
    for word in words:
        if word.position.line > below or not out:
            out.append([])
        out[-1].append(word)
        below = word.position.line + word.text.count("\n")
    return [tuple(line) for line in out]


def _opened(words: tuple[Token, ...]) -> tuple[tuple[Token, ...], Token | None, tuple[Token, ...]]:
    """Splits words at the first `{`. Returns the words before it, the brace or None, and the words after it."""
    for place, word in enumerate(words):
        if _is(word, "{"):
            return words[:place], word, words[place + 1 :]
    return words, None, ()


def _has_brace(key: Token) -> bool:
    return key.text.endswith("{")


def _is(word: Token, text: str) -> bool:
    return word.text == text


def _is_import(line: _Line) -> bool:
    return _is(line.tokens[0], "import")


def _is_snippet(keys: list[Token]) -> bool:
    return len(keys) == 1 and keys[0].text.startswith("(") and keys[0].text.endswith(")")


def _with_arguments(word: Token, values: list[str]) -> Token:
    """Returns a word of a snippet with each `{args[N]}` replaced by argument N of the import.

    If the import has no arguments, the word is not changed.
    """
    if not values or "{args[" not in word.text:
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
        return Path(path).read_bytes().decode(errors="replace")
    except OSError as error:
        raise CorefileError(token.position, f"cannot read '{path}': {error}") from error
