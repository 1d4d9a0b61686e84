"""Nodes of an expression: each makes, from the nodes below it, a function of the scope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from svcdns.corefile.regex import compiled as regex

MAX_RANGE: Final = 1_000_000
Node = Callable[[Any], Any]


def constant(value: Any) -> Node:
    """Always the same."""
    return lambda _: value


def variable(name: str) -> Node:
    """A value of the surroundings."""
    return lambda scope: scope.values[name]


def element(scope: Any) -> Any:
    """`#`: what a predicate looks at."""
    return scope.elements[-1]


def array(items: list[Node]) -> Node:
    """A list."""
    return lambda scope: [item(scope) for item in items]


def mapping(keys: list[Node], values: list[Node]) -> Node:
    """A map; keys are text."""
    return lambda scope: {str(key(scope)): value(scope) for key, value in zip(keys, values, strict=True)}


def call_of(name: str, given: list[Node]) -> Node:
    """A call of a function of the surroundings."""
    return lambda scope: scope.values[name](*(item(scope) for item in given))


def call(function: Callable[..., Any], given: list[Node]) -> Node:
    """A call of a function of the language."""
    return lambda scope: function(*(item(scope) for item in given))


def over(function: Callable[..., Any], items: Node, test: Node | None) -> Node:
    """A function that looks at each element of a list."""

    def run(scope: Any) -> Any:
        def look(item: Any) -> Any:
            if test is None:
                return item
            scope.elements.append(item)
            try:
                return test(scope)
            finally:
                scope.elements.pop()

        found = items(scope)
        if not isinstance(found, list):
            raise TypeError(f"a list was expected, not {shown(found)}")
        return function(found, look)

    return run


def choice(condition: Node, then: Node, otherwise: Node) -> Node:
    """One of two values."""
    return lambda scope: then(scope) if truth(condition(scope)) else otherwise(scope)


def member(node: Node, key: Node, *, optional: bool) -> Node:
    """A field of a map, or an element of a list; negative numbers count from the end."""

    def run(scope: Any) -> Any:
        value = node(scope)
        if value is None and optional:
            return None
        at = key(scope)
        if isinstance(value, dict):
            return value.get(at)
        if not isinstance(value, list | str):
            raise TypeError(f"{shown(value)} has no member {shown(at)}")
        return value[at]

    return run


def part(node: Node, start: Node | None, end: Node | None) -> Node:
    """A slice of a list or text."""
    return lambda scope: node(scope)[start(scope) if start else None : end(scope) if end else None]


def unary(operator: str, node: Node) -> Node:
    """`not`, `!`, `-` or `+`."""
    if operator in ("not", "!"):
        return negated(node)
    sign = -1 if operator == "-" else 1
    return lambda scope: sign * number(node(scope))


def negated(node: Node) -> Node:
    """The other truth value."""
    return lambda scope: not truth(node(scope))


def binary(operator: str, left: Node, right: Node) -> Node:
    """The operator between two nodes; `and`, `or` and `??` look at the right one if they have to."""
    if operator in ("and", "&&"):
        return lambda scope: truth(left(scope)) and truth(right(scope))
    if operator in ("or", "||"):
        return lambda scope: truth(left(scope)) or truth(right(scope))
    if operator == "??":
        return lambda scope: right(scope) if (value := left(scope)) is None else value
    work = _WORK[operator]
    return lambda scope: work(left(scope), right(scope))


def truth(value: Any) -> bool:
    """A truth value; nothing else is one."""
    if not isinstance(value, bool):
        raise TypeError(f"true or false was expected, not {shown(value)}")
    return value


def number(value: Any) -> Any:
    """A number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"a number was expected, not {shown(value)}")
    return value


def text(value: Any) -> str:
    """Text."""
    if not isinstance(value, str):
        raise TypeError(f"text was expected, not {shown(value)}")
    return value


def equal(left: Any, right: Any) -> bool:
    """Whether two values are the same; true and 1 are not."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)


def shown(value: Any) -> str:
    """A value in an error."""
    return f"{value!r}"[:40]


def _added(left: Any, right: Any) -> Any:
    return left + text(right) if isinstance(left, str) else number(left) + number(right)


def _before(left: Any, right: Any) -> bool:
    return left < text(right) if isinstance(left, str) else bool(number(left) < number(right))


def _within(left: Any, right: Any) -> bool:
    if isinstance(right, dict):
        return left in right
    if not isinstance(right, list):
        raise TypeError(f"a list or map was expected behind 'in', not {shown(right)}")
    return any(equal(left, item) for item in right)


def _range(left: Any, right: Any) -> list[int]:
    if number(right) - number(left) >= MAX_RANGE:
        raise ValueError(f"a range of more than {MAX_RANGE} numbers")
    return list(range(left, right + 1))


_WORK: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": equal,
    "!=": lambda left, right: not equal(left, right),
    "<": _before,
    ">": lambda left, right: _before(right, left),
    "<=": lambda left, right: not _before(right, left),
    ">=": lambda left, right: not _before(left, right),
    "in": _within,
    "matches": lambda left, right: regex(text(right)).find(text(left)) is not None,
    "contains": lambda left, right: text(right) in text(left),
    "startsWith": lambda left, right: text(left).startswith(text(right)),
    "endsWith": lambda left, right: text(left).endswith(text(right)),
    "..": _range,
    "+": _added,
    "-": lambda left, right: number(left) - number(right),
    "*": lambda left, right: number(left) * number(right),
    "/": lambda left, right: number(left) / number(right),
    "%": lambda left, right: int(number(left)) % int(number(right)),
    "**": lambda left, right: float(number(left)) ** float(number(right)),
    "^": lambda left, right: float(number(left)) ** float(number(right)),
}
