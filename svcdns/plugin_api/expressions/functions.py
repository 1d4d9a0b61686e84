"""The built-in functions of the expr language: functions of values, and functions of a list and a predicate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from svcdns.plugin_api.expressions.operators import equal, number, text, truth

_INT64: Final = 1 << 63


def _string(value: Any) -> str:
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _int(value: Any) -> int:
    """Converts a value to a whole number. Raises ValueError if it has more than 64 bits."""
    result = int(value) if isinstance(value, str) else int(number(value))
    if not -_INT64 <= result < _INT64:
        raise ValueError("a number of more than 64 bits")
    return result


def _numbers(arguments: tuple[Any, ...]) -> list[Any]:
    """Returns the arguments. If a list is the only argument, returns its elements."""
    given = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], list) else arguments
    return [number(item) for item in given]


def _split(value: str, separator: str, most: int = -1) -> list[str]:
    if not text(separator):
        return list(text(value))
    return text(value).split(separator, most - 1 if most > 0 else -1)


def _repeat(value: str, times: int) -> str:
    if len(text(value)) * times > 1 << 16:
        raise ValueError("text of more than 65536 characters")
    return value * times


def _element(index: int) -> Callable[[Any], Any]:
    return lambda items: items[index] if items else None


def _uniq(items: list[Any]) -> list[Any]:
    out: list[Any] = []
    for item in items:
        if not any(equal(item, other) for other in out):
            out.append(item)
    return out


BUILTINS: Final[dict[str, Callable[..., Any]]] = {
    "len": len,
    "int": _int,
    "float": lambda value: float(value) if isinstance(value, str) else float(number(value)),
    "string": _string,
    "abs": lambda value: abs(number(value)),
    "ceil": lambda value: float(math.ceil(number(value))),
    "floor": lambda value: float(math.floor(number(value))),
    "round": lambda value: math.copysign(math.floor(abs(number(value)) + 0.5), value),
    "min": lambda *values: min(_numbers(values)),
    "max": lambda *values: max(_numbers(values)),
    "mean": lambda *values: sum(_numbers(values)) / len(_numbers(values)),
    "trim": lambda value, characters=None: text(value).strip(characters),
    "trimPrefix": lambda value, prefix: text(value).removeprefix(text(prefix)),
    "trimSuffix": lambda value, suffix: text(value).removesuffix(text(suffix)),
    "upper": lambda value: text(value).upper(),
    "lower": lambda value: text(value).lower(),
    "split": _split,
    "replace": lambda value, old, new: text(value).replace(text(old), text(new)),
    "repeat": _repeat,
    "join": lambda items, separator="": text(separator).join(items),
    "indexOf": lambda value, part: text(value).find(text(part)),
    "lastIndexOf": lambda value, part: text(value).rfind(text(part)),
    "hasPrefix": lambda value, prefix: text(value).startswith(text(prefix)),
    "hasSuffix": lambda value, suffix: text(value).endswith(text(suffix)),
    "first": _element(0),
    "last": _element(-1),
    "take": lambda items, count: items[:count],
    "reverse": lambda items: items[::-1],
    "sort": lambda items, order="asc": sorted(items, reverse=order == "desc"),
    "uniq": _uniq,
    "concat": lambda *lists: [item for items in lists for item in items],
    "keys": lambda value: list(value.keys()),
    "values": lambda value: list(value.values()),
    "get": lambda value, key: (
        value.get(key) if isinstance(value, dict) else value[key] if -len(value) <= key < len(value) else None
    ),
    "bitand": lambda left, right: _int(left) & _int(right),
    "bitor": lambda left, right: _int(left) | _int(right),
    "bitxor": lambda left, right: _int(left) ^ _int(right),
    "bitshl": lambda left, right: _wrapped(_int(left) << min(_int(right), 64)),
    "bitshr": lambda left, right: _int(left) >> _int(right),
}
"""The functions of values, by name."""


def _wrapped(value: int) -> int:
    """Returns the lower 64 bits of a number, as a signed number."""
    return (value + _INT64) % (2 * _INT64) - _INT64


Predicate = Callable[[Any], Any]
"""Returns the value of an expression for one element of a list."""

PREDICATES: Final[dict[str, Callable[[list[Any], Predicate], Any]]] = {
    "all": lambda items, predicate: all(truth(predicate(item)) for item in items),
    "any": lambda items, predicate: any(truth(predicate(item)) for item in items),
    "none": lambda items, predicate: not any(truth(predicate(item)) for item in items),
    "one": lambda items, predicate: sum(truth(predicate(item)) for item in items) == 1,
    "filter": lambda items, predicate: [item for item in items if truth(predicate(item))],
    "map": lambda items, predicate: [predicate(item) for item in items],
    "count": lambda items, predicate: sum(truth(predicate(item)) for item in items),
    "find": lambda items, predicate: next((item for item in items if truth(predicate(item))), None),
    "findIndex": lambda items, predicate: next(
        (index for index, item in enumerate(items) if truth(predicate(item))), None
    ),
    "sum": lambda items, predicate: sum(number(predicate(item)) for item in items),
}
"""The functions of a list and a predicate, by name."""
