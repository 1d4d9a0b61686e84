"""Functions that templates can call: those of Go's text/template, and `parseInt`."""

from __future__ import annotations

import html
import urllib.parse
from collections.abc import Callable
from typing import Any, Final

from svcdns.plugins.template.go_template.errors import RenderError
from svcdns.plugins.template.go_template.values import NO_VALUE, Struct, formatted, kind, shown, truth

MAX_TEXT: Final = 65536
"""Characters that a text may grow to."""


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, "")
        elif isinstance(value, list | str) and kind(key) == "int":
            if not 0 <= key < len(value):
                raise RenderError(f"index out of range: {key}")
            value = value[key] if isinstance(value, list) else ord(value[key])
        else:
            raise RenderError(f"can't index {kind(value)} with {kind(key)}")
    return value


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, list | str) or len(bounds) > 2:
        raise RenderError(f"can't slice {kind(value)}")
    low = bounds[0] if bounds else 0
    high = bounds[1] if len(bounds) > 1 else len(value)
    if not (kind(low) == kind(high) == "int" and 0 <= low <= high <= len(value)):
        raise RenderError(f"slice bounds out of range: {shown(low)}:{shown(high)}")
    return value[low:high]


def _length(value: Any) -> int:
    if not isinstance(value, str | list | dict):
        raise RenderError(f"{kind(value)} has no length")
    return len(value.encode()) if isinstance(value, str) else len(value)


def _same(left: Any, right: Any) -> bool:
    if left is NO_VALUE or right is NO_VALUE or left is None or right is None:
        return left is right
    if kind(left) != kind(right) or isinstance(left, list | dict | Struct):
        raise RenderError(f"incompatible types for comparison: {kind(left)} and {kind(right)}")
    return bool(left == right)


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise RenderError("missing argument for comparison")
    return any(_same(first, other) for other in others)


def _before(left: Any, right: Any) -> bool:
    if kind(left) != kind(right) or kind(left) not in ("int", "float", "string"):
        raise RenderError(f"incompatible types for comparison: {kind(left)} and {kind(right)}")
    return bool(left < right)


def _print(*values: Any) -> str:
    """As Go's `Sprint`: a space between two values neither of which is text."""
    out = ""
    for at, value in enumerate(values):
        if at and not isinstance(value, str) and not isinstance(values[at - 1], str):
            out += " "
        out += shown(value)
    return out


def _parse_int(value: Any, base: Any = 10, bits: Any = 64) -> int:
    """An unsigned number, as Go's `ParseUint` reads one."""
    if not isinstance(value, str) or not value.isalnum() or not value.isascii():
        raise RenderError(f"parsing {shown(value)}: invalid syntax")
    try:
        made = int(value, base)
    except (TypeError, ValueError) as error:
        raise RenderError(f"parsing {value}: invalid syntax") from error
    if made >= 1 << (bits or 64):
        raise RenderError(f"parsing {value}: value out of range")
    return made


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "not": lambda value: not truth(value),
    "eq": _equal,
    "ne": lambda left, right: not _same(left, right),
    "lt": _before,
    "le": lambda left, right: not _before(right, left),
    "gt": lambda left, right: _before(right, left),
    "ge": lambda left, right: not _before(left, right),
    "index": _index,
    "slice": _slice,
    "len": _length,
    "print": _print,
    "println": lambda *values: " ".join(shown(value) for value in values) + "\n",
    "printf": formatted,
    "html": lambda *values: html.escape(_print(*values)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    "urlquery": lambda *values: urllib.parse.quote_plus(_print(*values), safe="~"),
    "parseInt": _parse_int,
}
"""By name. `and` and `or` are not among them: they do not look at what they need not."""
LAZY: Final = ("and", "or")
