"""Reads the plain form of YAML in which most manifests are written, several times faster than a YAML parser.

The form has block mappings and block sequences only. A key and its value, or a dash and its value, are on one line. A
value is text of one line, a whole number, `true`, `false`, `{}` or `[]`. Rules:

1. A text that has anything else is refused as a whole: anchors, tags, block scalars, escapes, a comment after a value,
   a key that occurs twice, or wrong indentation. Then the caller uses the YAML parser, which also makes the errors.
2. The result is the same as the result of the YAML parser.

Source: YAML 1.1, as sigs.k8s.io/yaml reads it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

MAX_LEVELS: Final = 50
"""The most levels of mappings and sequences in a text that is read here."""
CACHED_LINES: Final = 2048
"""The most lines whose content is cached: most lines of a manifest occur many times."""

_PLAIN: Final = r"[A-Za-z_/0-9](?:[\w./@+,=()-]|:(?=[\w/])| (?=[\w./@+,=()-]))*"
_LINE: Final = re.compile(
    r"( *)(- )?"
    r"(?:([A-Za-z_][\w./-]{0,200}):(?= |$))?"
    rf"(?: *(?:({_PLAIN})|\"([\w ./:@+,=()-]*)\"|'([\w ./:@+,=()-]*)'|(\{{\}})|(\[\])))? *",
    re.ASCII,
)
_COMMENT: Final = re.compile(r" *(?:#[ -~]*)?")
_DOCUMENT: Final = re.compile(r"^---[ ]*$", re.MULTILINE)
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_ADDRESS: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_BOOLEANS: Final = {"true": True, "false": False}
_OTHER_TYPES: Final = frozenset({"yes", "no", "on", "off", "null", "true", "false", "y", "n"})
"""Words, in lower case, that YAML 1.1 may read as a boolean or as null."""

_NO_VALUE: Final = object()
_COMMENT_LINE: Final = (-1, False, None, None)
_Line = tuple[int, bool, str | None, Any]


class BlockObject(NamedTuple):
    """A mapping of a text, and the number of lines before its first key."""

    fields: dict[str, Any]
    line: int


class _OtherFormError(Exception):
    """The text is not written in the plain form."""


def documents(text: str) -> list[BlockObject] | None:
    """Returns the YAML documents of a text, which have to be mappings. Returns None if the text has another form."""
    found = []
    begin = line = 0
    try:
        for end in [*_DOCUMENT.finditer(text), None]:
            part = text[begin : end.start() if end is not None else len(text)]
            read = _read(part)
            if read is not None:
                value, first = read
                if not isinstance(value, dict):
                    return None
                found.append(BlockObject(value, line + first))
            elif begin:
                return None
            if end is not None:
                begin = end.end()
                line += part.count("\n")
    except _OtherFormError:
        return None
    return found


def items(text: str) -> list[BlockObject] | None:
    """Returns the items of a YAML sequence of mappings. Returns None if the text has another form."""
    try:
        read = _read(text)
    except _OtherFormError:
        return None
    if read is None or not isinstance(read[0], list) or not all(isinstance(item, dict) for item in read[0]):
        return None
    lines = [_line(line) for line in text.split("\n")]
    places = [number for number, line in enumerate(lines) if line[1] and line[0] == lines[read[1]][0]]
    return [BlockObject(item, line) for item, line in zip(read[0], places, strict=True)]


def _read(text: str) -> tuple[Any, int] | None:
    """Returns the value of a text, and the number of lines before it. Returns None for a text without a value."""
    root: Any = None
    first = -1
    top: Any = None
    column = -1
    above: list[tuple[Any, int]] = []
    waiting: str | None = None  # the key in `top` whose value is on the next lines, if it is not null
    nulls: list[tuple[dict[str, Any], str]] = []
    for number, (indent, dash, key, value) in enumerate(map(_line, text.split("\n"))):
        if indent < 0:
            continue
        if root is None:
            root = top = [] if dash else {}
            column, first = indent, number
        elif waiting is not None:
            if indent > column or (dash and indent == column):
                child: Any = [] if dash else {}
                top[waiting] = child
                above.append((top, column))
                if len(above) > MAX_LEVELS:
                    raise _OtherFormError
                top, column = child, indent
            else:
                nulls.append((top, waiting))
            waiting = None
        while indent < column or (indent == column and not dash and type(top) is list):
            if not above:
                raise _OtherFormError
            top, column = above.pop()
        if indent != column:
            raise _OtherFormError
        if dash:
            if type(top) is not list:
                raise _OtherFormError
            if key is None:
                top.append(value)
                continue
            above.append((top, column))
            entry: dict[str, Any] = {}
            top.append(entry)
            top, column = entry, indent + 2
        if key in top:
            raise _OtherFormError
        if value is _NO_VALUE:
            top[key] = None
            waiting = key
        else:
            top[key] = value
    if waiting is not None:
        nulls.append((top, waiting))
    for mapping, key in nulls:
        del mapping[key]
    return None if first < 0 else (root, first)


@lru_cache(CACHED_LINES)
def _line(text: str) -> _Line:
    """Returns a line's indentation, whether it has a dash, its key and its value. Raises _OtherFormError."""
    found = _LINE.fullmatch(text)
    if found is None or (found[3] is None and found.lastindex == 1):
        if _COMMENT.fullmatch(text):
            return _COMMENT_LINE
        raise _OtherFormError
    spaces, dash, key, plain, double, single, mapping, sequence = found.groups()
    value: Any
    if plain is not None:
        value = _scalar(plain)
    elif double is not None or single is not None:
        value = double if double is not None else single
    elif mapping or sequence:
        value = {} if mapping else []
    else:
        value = _NO_VALUE
    if key is None:
        if dash is None or value is _NO_VALUE:
            raise _OtherFormError
    elif key.lower() in _OTHER_TYPES:
        raise _OtherFormError
    return len(spaces), dash is not None, key, value


def _scalar(text: str) -> str | int | bool:
    """Returns the value of a plain scalar. Raises _OtherFormError if its YAML type is not obvious."""
    if text[0].isdigit():
        if _NUMBER.fullmatch(text):
            return int(text)
        if _ADDRESS.fullmatch(text):
            return text
        raise _OtherFormError
    if len(text) <= 5 and text.lower() in _OTHER_TYPES:
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        raise _OtherFormError
    return text
