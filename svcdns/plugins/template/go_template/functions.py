"""The functions of templates: those of Go's `text/template`, and `parseInt`."""

from __future__ import annotations

import html
import urllib.parse
from collections.abc import Callable
from typing import Any, Final

from svcdns.plugins.template.go_template.values import NO_VALUE, RenderError, Struct, kind, printf, to_text, truth

MAX_TEXT: Final = 65536
"""The most characters of a rendered template."""


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
        raise RenderError(f"slice bounds out of range: {to_text(low)}:{to_text(high)}")
    return value[low:high]


def _length(value: Any) -> int:
    if not isinstance(value, str | list | dict):
        raise RenderError(f"{kind(value)} has no length")
    return len(value.encode()) if isinstance(value, str) else len(value)


def _same_value(left: Any, right: Any) -> bool:
    if left is NO_VALUE or right is NO_VALUE or left is None or right is None:
        return left is right
    if kind(left) != kind(right) or isinstance(left, list | dict | Struct):
        raise RenderError(f"incompatible types for comparison: {kind(left)} and {kind(right)}")
    return bool(left == right)


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise RenderError("missing argument for comparison")
    return any(_same_value(first, other) for other in others)


def _less(left: Any, right: Any) -> bool:
    if kind(left) != kind(right) or kind(left) not in ("int", "float", "string"):
        raise RenderError(f"incompatible types for comparison: {kind(left)} and {kind(right)}")
    return bool(left < right)


def _print(*values: Any) -> str:
    """Concatenates values like Go's `Sprint`: a space separates two values if neither is a string."""
    out = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            out += " "
        out += to_text(value)
    return out


def _parse_int(value: Any, base: Any = 10, bits: Any = 64) -> int:
    """Parses an unsigned number, like Go's `ParseUint`. Raises RenderError."""
    if not isinstance(value, str) or not value.isalnum() or not value.isascii():
        raise RenderError(f"parsing {to_text(value)}: invalid syntax")
    try:
        number = int(value, base)
    except (TypeError, ValueError) as error:
        raise RenderError(f"parsing {value}: invalid syntax") from error
    if number >= 1 << (bits or 64):
        raise RenderError(f"parsing {value}: value out of range")
    return number


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "not": lambda value: not truth(value),
    "eq": _equal,
    "ne": lambda left, right: not _same_value(left, right),
    "lt": _less,
    "le": lambda left, right: not _less(right, left),
    "gt": lambda left, right: _less(right, left),
    "ge": lambda left, right: not _less(left, right),
    "index": _index,
    "slice": _slice,
    "len": _length,
    "print": _print,
    "println": lambda *values: " ".join(to_text(value) for value in values) + "\n",
    "printf": printf,
    "html": lambda *values: html.escape(_print(*values)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    "urlquery": lambda *values: urllib.parse.quote_plus(_print(*values), safe="~"),
    "parseInt": _parse_int,
}
"""The functions by name, without the functions in LAZY."""
LAZY: Final = ("and", "or")
"""Functions that do not evaluate all their arguments. `nodes.Command` implements them."""
