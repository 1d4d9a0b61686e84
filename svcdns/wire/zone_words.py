"""The text of a zone file, cut into entries and words (RFC 1035 §5.1): comments, parentheses and quotes end here.

The text has a character for each octet of the file (ISO 8859-1). Words keep their escapes. An octet that is no ASCII
character becomes an escape, so that it reaches the wire as it stands in the file. Nothing is known here of owners,
types and data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from svcdns.errors import SvcdnsError

_TOKEN: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|(;)[^\n]*|([()])|((?:[^ \t\r\n;()"\\]|\\[^\n])+)|(\n)', re.DOTALL)
_NEEDS_CARE: Final = re.compile(r'["();\\\x0b\x0c\x1c-\x1f\x80-\xff]')
"""What `str.split` would not see, or take for white space."""
_ESCAPE: Final = re.compile(r"\\(\d{3}|.)", re.DOTALL)
_FOREIGN: Final = {octet: f"\\{octet:03d}" for octet in range(128, 256)}


class ZoneFileError(SvcdnsError):
    """A zone file that says something wrong; the text names file, line and column."""


class Quoted(str):
    """A word that stood in quotes, without them."""

    __slots__ = ()


class Attached(Quoted):
    """A quoted word with no blank before it, as the value in `alpn="h2,h3"`."""

    __slots__ = ()


class Entry(NamedTuple):
    """One entry, at `start` in the text. `blank`: it begins with white space.

    `plain`: no word is quoted, or has an escape or an octet beyond ASCII.
    """

    start: int
    blank: bool
    plain: bool
    words: list[str]


class _Scan:
    """A walk over the tokens of an entry whose quotes, comments or parentheses need a look at each."""

    def __init__(self, text: str, start: int) -> None:
        self.text, self.at = text, start
        self.words: list[str] = []
        self.places: list[int] = []

    def run(self) -> str:
        """Reads to the end of the entry. Returns what is wrong with it; empty if nothing is."""
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
    """The text of one file."""

    def __init__(self, data: bytes, path: str) -> None:
        self.text, self.path = data.decode("iso-8859-1"), path
        self._counted = (0, 1)
        """A place up to which lines were counted, and its line: warnings come in the order of the file."""

    def where(self, entry: Entry, word: int = 0) -> str:
        """File, line and column of one of the words of an entry; the last one if there are not so many."""
        scan = _Scan(self.text, entry.start)
        scan.run()
        return self._shown(scan.places[min(word, len(scan.places) - 1)]) if scan.places else self._shown(entry.start)

    def _shown(self, place: int) -> str:
        begin, line = self._counted if self._counted[0] <= place else (0, 1)
        line += self.text.count("\n", begin, place)
        self._counted = (place, line)
        return f"{self.path}:{line}:{place - self.text.rfind(chr(10), 0, place)}"

    def entries(self) -> Iterator[Entry]:
        """The entries that have words, in file order. Raises ZoneFileError."""
        text, start = self.text, 0
        size = len(text)
        while start < size:
            end = text.find("\n", start)
            if end < 0:
                end = size
            line = text[start:end]
            plain = _NEEDS_CARE.search(line) is None
            if plain:
                words, after = line.split(), end + 1
            else:
                scan = _Scan(text, start)
                wrong = scan.run()
                if wrong:
                    raise ZoneFileError(f"{self._shown(scan.at)}: {wrong}")
                words, after = scan.words, scan.at
            if words:
                yield Entry(start, line[0] in " \t", plain, words)
            start = after


def mended(word: str) -> tuple[str, bool]:
    """A word whose escapes are those of RFC 1035 §5.1, and whether it had others.

    `\\1` without three digits is read as the digit, and `\\300` as the octet that is left of it, as CoreDNS reads them.
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
    """The octets that a word without wrong escapes stands for."""
    if "\\" not in word:
        return word.encode("iso-8859-1")

    def octet(found: re.Match[bytes]) -> bytes:
        text = found[1]
        return bytes((int(text),)) if len(text) == 3 else text

    return re.sub(rb"\\(\d{3}|.)", octet, word.encode("iso-8859-1"), flags=re.DOTALL)


def escaped(data: bytes) -> Quoted:
    """A word that stands for these octets."""
    return Quoted("".join(f"\\{octet:03d}" for octet in data))
