"""Divides the text of a YAML file into portions that can be parsed separately.

A portion has some documents of the file, or some items of a List. Rules:

1. A line that begins with `---` and white space begins a document. A file with a line that begins with `%` is one
   portion.
2. A List is divided only if it has the layout of `kubectl get -o yaml`: a line `items:`, and each item begins with a
   dash in the same column. A text with anchors or aliases is not divided.
3. An object is left out only if its first column has exactly one line `kind:` and one line `apiVersion:`. A text with
   `{{` is never left out.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from svcdns.sources.manifests.errors import FilePosition

SIZE: Final = 1 << 13
"""The size of a portion, in characters, after which the next one begins."""

IsUnused = Callable[[str, str], bool]
"""Returns True for an apiVersion and a kind whose objects need not be parsed."""

# These patterns begin with a line end, which the regular expression engine finds quickly.
_DOCUMENT: Final = re.compile(r"\n---(?=\s)")
_DIRECTIVE: Final = re.compile(r"\n%")
_LIST: Final = re.compile(r"\nkind: \w*List[ \r]*(?=\n|$)")
_ITEMS: Final = re.compile(r"\nitems:[ \r]*\n(?=( *)- )")
_END_OF_ITEMS: Final = re.compile(r"\n[^\s#-]")
_ANCHOR: Final = re.compile(r"(?:^|[\s\[{,])[&*][^\s,\]}]", re.MULTILINE)
_FIRST_LINE: Final = re.compile(r"^[^\s#-]", re.MULTILINE)
_FIRST_KEY: Final = re.compile(r" +(?=[a-z])")
_WORD: Final = re.compile(r"[ ]+[\"']?([\w./-]+)[\"']?[ \r]*(?: #.*)?(?=\n|$)")
_REST: Final = re.compile(r"[ \r]*(?: #.*)?(?=\n)")
_INDENT: Final = re.compile(r"\n( *)[\w]")


class Portion(NamedTuple):
    """A part of a file that is parsed in one call: its text, and the number of lines before it in the file."""

    text: str
    line: int


class UnusedObject(NamedTuple):
    """An object that was not parsed, because objects of its kind are not used.

    `position` is the first line of the object. `namespace` is empty if the object has none.
    """

    position: FilePosition
    api_version: str
    kind: str
    namespace: str

    def of(self, file: FilePosition) -> UnusedObject:
        """Returns a copy of this object with the path of `file` in its position."""
        return self._replace(position=FilePosition(file.path, self.position.line))


class ListText(NamedTuple):
    """A List whose items are parsed in portions.

    `outside` is the text of the List with an empty list of items. `items` is the text of the items. `column` is the
    column of their dashes.
    """

    outside: Portion
    items: Portion
    column: int


def documents_of(whole: Portion, is_unused: IsUnused | None) -> Iterator[Portion | UnusedObject]:
    """Yields the documents of a text, in portions of several documents. A List is a portion of its own."""
    if is_unused is None or _has_directive(whole.text):
        yield whole
        return
    yield from _portions(whole, _document_begins(whole.text), 0, is_unused)


def divided(text: str, count: int) -> list[Portion | ListText]:
    """Divides the text of a file into at most `count` parts of similar size, which can be read separately.

    A file that is one List is divided between its items. Any other file is divided between its documents.
    """
    whole = Portion(text, 0)
    if _has_directive(text):
        return [whole]
    items = list_text(whole)
    if items is None:
        return [*_cut(whole, _document_begins(text), count)]
    return [ListText(items.outside, part, items.column) for part in _cut(items.items, _item_begins(items), count)]


def _cut(whole: Portion, begins: list[int], count: int) -> Iterator[Portion]:
    """Yields at most `count` parts of a text. Each part begins at one of the offsets `begins`."""
    text, line = whole
    start = 0
    for number in range(1, count + 1):
        after = bisect_left(begins, number * len(text) // count)
        end = begins[after] if after < len(begins) else len(text)
        if end > start:
            yield Portion(text[start:end], line)
            line += text.count("\n", start, end)
            start = end


def _has_directive(text: str) -> bool:
    return text.startswith("%") or _DIRECTIVE.search(text) is not None


def _document_begins(text: str) -> list[int]:
    return [0, *(found.start() + 1 for found in _DOCUMENT.finditer(text))]


def list_text(portion: Portion) -> ListText | None:
    """Divides the text of a large List into the items and the text around them.

    Returns None if the portion is not one large List with the layout of `kubectl get -o yaml`.
    """
    text = portion.text
    if len(text) < SIZE or not (_LIST.search(text) or _LIST.match("\n" + text[:SIZE])):
        return None
    begins = list(_ITEMS.finditer(text))
    if len(begins) != 1 or _DOCUMENT.search(text) or (("&" in text or "*" in text) and _ANCHOR.search(text)):
        return None
    begin = begins[0].end()
    found = _END_OF_ITEMS.search(text, begin)
    end = found.start() + 1 if found is not None else len(text)
    outside = f"{text[: begins[0].start()]}\nitems: []\n{text[end:]}"
    lines = portion.line + text.count("\n", 0, begin)
    return ListText(Portion(outside, portion.line), Portion(text[begin:end], lines), len(begins[0][1]))


def items_of(text: ListText, is_unused: IsUnused | None) -> Iterator[Portion | UnusedObject]:
    """Divides a List into portions and unused items. Each portion is a YAML sequence of some items."""
    yield from _portions(text.items, _item_begins(text), text.column + 1, is_unused)


def _item_begins(text: ListText) -> list[int]:
    pattern = rf"\n {{{text.column}}}-(?=\s)"
    return [0, *(found.start() + 1 for found in re.finditer(pattern, text.items.text))]


def _portions(
    whole: Portion, begins: list[int], column: int, is_unused: IsUnused | None
) -> Iterator[Portion | UnusedObject]:
    """Divides a text into portions and unused objects. An object begins at each of the offsets `begins`.

    Consecutive used objects are joined into portions of about SIZE characters. The first `column` characters of each
    object are left out, because they are its indentation.
    """
    text, line = whole
    start, start_line = 0, line
    for begin, end in zip(begins, [*begins[1:], len(text)], strict=True):
        part = text[begin:end]
        below = line + part.count("\n")
        unused = _unused(part, column, line, is_unused) if is_unused is not None else None
        is_list = not column and len(part) >= SIZE
        if (unused is not None or is_list) and start < begin:
            yield Portion(text[start:begin], start_line)
            start, start_line = begin, line
        if unused is not None:
            yield unused
            start, start_line = end, below
        elif end - start >= SIZE:
            yield Portion(text[start:end], start_line)
            start, start_line = end, below
        line = below
    if start < len(text):
        yield Portion(text[start:], start_line)


def _unused(text: str, column: int, line: int, is_unused: IsUnused) -> UnusedObject | None:
    """Returns an UnusedObject if the object in `text` need not be parsed, otherwise None."""
    indent = column
    if column:
        found = _FIRST_KEY.match(text, column)
        if found is None:
            return None
        indent = found.end()
    lines = "\n" + " " * column + text[column:]
    kind, version = _value(lines, indent, "kind"), _value(lines, indent, "apiVersion")
    if not kind or not version or not is_unused(version, kind) or "{{" in text:
        return None
    namespace = _namespace(lines, indent)
    if namespace is None:
        return None
    begin = None if column else _FIRST_LINE.search(text)
    above = text.count("\n", 0, begin.start()) if begin is not None else 0
    return UnusedObject(FilePosition("", line + above + 1), version, kind, namespace)


def _value(lines: str, indent: int, field: str, begin: int = 0, end: int | None = None) -> str | None:
    """Returns the value of the field `field`, or an empty text if no line has the field.

    Returns None if the value cannot be known without parsing the lines.
    """
    key = f"\n{' ' * indent}{field}:"
    at = lines.find(key, begin, end)
    if at < 0:
        return ""
    found = _WORD.match(lines, at + len(key))
    return None if found is None or lines.find(key, at + 1, end) >= 0 else found[1]


def _namespace(lines: str, indent: int) -> str | None:
    """Returns the namespace of an object, or an empty text if the object has none.

    Returns None if the namespace cannot be known without parsing the object.
    """
    key = f"\n{' ' * indent}metadata:"
    at = lines.find(key)
    if at < 0:
        return ""
    begin = _REST.match(lines, at + len(key))
    if begin is None:
        return None
    end = _below(indent).search(lines, begin.end())
    child = _INDENT.match(lines, begin.end())
    if child is None or len(child[1]) <= indent:
        return None
    return _value(lines, len(child[1]), "namespace", begin.end(), end.start() if end is not None else None)


@lru_cache(64)
def _below(indent: int) -> re.Pattern[str]:
    return re.compile(rf"\n {{0,{indent}}}[^\s#]")
