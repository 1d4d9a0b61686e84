"""Divides the text of a zone file into entries and words (RFC 1035 §5.1), and removes comments, parentheses and quotes.

The text has one character for each octet of the file (ISO 8859-1). Escapes in words stay as they are. An octet outside
ASCII becomes an escape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from svcdns.errors import SvcdnsError

_TOKEN: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|(;)[^\n]*|([()])|((?:[^ \t\r\n;()"\\]|\\[^\n])+)|(\n)', re.DOTALL)
_NEEDS_CARE: Final = re.compile(r'["();\\\x0b\x0c\x1c-\x1f\x80-\xff]')
"""Matches characters that `str.split` does not treat as a zone file does.

These are quotes, comments, parentheses, escapes, and some control characters that `str.split` takes for white space.
"""
_ESCAPE: Final = re.compile(r"\\(\d{3}|.)", re.DOTALL)
_FOREIGN: Final = {octet: f"\\{octet:03d}" for octet in range(128, 256)}


class ZoneFileError(SvcdnsError):
    """Raised if a zone file has an error. The text has file, line and column."""


class Quoted(str):
    """A word that was in quotes. The quotes are removed."""

    __slots__ = ()


class Attached(Quoted):
    """A quoted word without white space before it, such as the value in `alpn="h2,h3"`."""

    __slots__ = ()


class Entry(NamedTuple):
    """An entry of a zone file (RFC 1035 §5.1), divided into words.

    `start` is the offset of the entry in the text. `blank` is True if the entry begins with white space. `plain` is
    True if all words are ASCII without quotes and escapes. `ignored` is the offset from which on the rest of the line
    is ignored, or -1.
    """

    start: int
    blank: bool
    plain: bool
    words: list[str]
    ignored: int = -1


class _Scan:
    """Reads one entry token by token, if it has quotes, comments or parentheses."""

    def __init__(self, text: str, start: int) -> None:
        self.text, self.at = text, start
        self.words: list[str] = []
        self.places: list[int] = []
        self.ignored = -1

    def run(self) -> str:
        """Reads to the end of the entry. Returns a description of the error, or an empty text."""
        text, depth, opened = self.text, 0, self.at
        size = len(text)
        glued = False
        while self.at < size:
            if text[self.at] in " \t\r":
                self.at += 1
                glued = False
                continue
            found = _TOKEN.match(text, self.at)
            if found is None:
                return "a quote or escape without its end"
            place, self.at = self.at, found.end()
            if found[5]:
                if not depth:
                    return ""
            elif found[3]:
                opened = place if not depth else opened
                depth += 1 if found[3] == "(" else -1
                if depth < 0 and any(word.upper() == "LOC" for word in self.words):
                    # CoreDNS reads a LOC record up to such a parenthesis.
                    self.ignored = place
                    end = text.find("\n", place)
                    self.at = size if end < 0 else end + 1
                    return ""
                if depth < 0:
                    self.at = place
                    return "')' without '('"
            elif not found[2]:
                quoted = found[1]
                self.words.append(found[4] if quoted is None else Attached(quoted) if glued else Quoted(quoted))
                self.places.append(place)
                glued = quoted is None
                continue
            glued = False
        if depth:
            self.at = opened
            return "'(' without ')'"
        return ""


class Text:
    """The text of one zone file."""

    def __init__(self, data: bytes, path: str) -> None:
        self.text, self.path = data.decode("iso-8859-1"), path
        self._counted = (0, 1)
        """An offset and its line number, from which lines are counted on. Warnings have ascending offsets."""

    def where(self, entry: Entry, word: int = 0) -> str:
        """Returns file, line and column of the entry's word with the index `word`.

        If the entry has fewer words, the last one is used.
        """
        scan = _Scan(self.text, entry.start)
        scan.run()
        return self._shown(scan.places[min(word, len(scan.places) - 1)]) if scan.places else self._shown(entry.start)

    def _shown(self, place: int) -> str:
        begin, line = self._counted if self._counted[0] <= place else (0, 1)
        line += self.text.count("\n", begin, place)
        self._counted = (place, line)
        return f"{self.path}:{line}:{place - self.text.rfind(chr(10), 0, place)}"

    def where_ignored(self, entry: Entry) -> str:
        """Returns file, line and column from which on the entry's line is ignored."""
        return self._shown(entry.ignored)

    def entries(self) -> Iterator[Entry]:
        """Yields the entries that have at least one word, in file order. Raises ZoneFileError."""
        text, start = self.text, 0
        size = len(text)
        while start < size:
            end = text.find("\n", start)
            if end < 0:
                end = size
            line = text[start:end]
            plain = _NEEDS_CARE.search(line) is None
            if plain:
                words, after, ignored = line.split(), end + 1, -1
            else:
                scan = _Scan(text, start)
                wrong = scan.run()
                if wrong:
                    raise ZoneFileError(f"{self._shown(scan.at)}: {wrong}")
                words, after, ignored = scan.words, scan.at, scan.ignored
            if words:
                yield Entry(start, line[0] in " \t", plain, words, ignored)
            start = after


def mended(word: str) -> tuple[str, bool]:
    r"""Corrects the escapes of a word. Returns the word, and True if an escape had to be corrected.

    As in CoreDNS, `\1` without three digits becomes the digit, and `\300` becomes the lowest eight bits of 300.
    """
    if not word.isascii():
        changed = word.translate(_FOREIGN)
        word = type(word)(changed)
    if "\\" not in word:
        return word, False
    wrong = False

    def escape(found: re.Match[str]) -> str:
        nonlocal wrong
        text = found[1]
        if len(text) == 3 and int(text) > 255:
            wrong = True
            return f"\\{int(text) % 256:03d}"
        if len(text) == 1 and text.isdecimal():
            wrong = True
            return text
        return found[0]

    out = _ESCAPE.sub(escape, word)
    return (type(word)(out) if wrong else word), wrong


def octets(word: str) -> bytes:
    """Returns the octets of a word. Call it only for words whose escapes are correct."""
    if "\\" not in word:
        return word.encode("iso-8859-1")

    def octet(found: re.Match[bytes]) -> bytes:
        text = found[1]
        return bytes((int(text),)) if len(text) == 3 else text

    return re.sub(rb"\\(\d{3}|.)", octet, word.encode("iso-8859-1"), flags=re.DOTALL)


def escaped(data: bytes) -> Quoted:
    """Returns the quoted word for these octets, with escapes where they are needed."""
    return Quoted("".join(f"\\{octet:03d}" for octet in data))
