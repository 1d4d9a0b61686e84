"""The nodes of a compiled expression.

A node is a function from a `Scope` to a value. Most public functions here return a node that is made from the nodes of
its operands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from svcdns.corefile.regex import compiled as regex

MAX_RANGE: Final = 1_000_000
Node = Callable[[Any], Any]


def constant(value: Any) -> Node:
    """Returns a node for a literal."""
    return lambda _: value


def variable(name: str) -> Node:
    """Returns a node whose value is that of the variable `name`."""
    return lambda scope: scope.values[name]


def element(scope: Any) -> Any:
    """The node of `#`: returns the list element to which the innermost predicate is applied."""
    return scope.elements[-1]


def array(items: list[Node]) -> Node:
    """Returns a node for a list."""
    return lambda scope: [item(scope) for item in items]


def mapping(keys: list[Node], values: list[Node]) -> Node:
    """Returns a node for a map. The keys are converted to text."""
    return lambda scope: {str(key(scope)): value(scope) for key, value in zip(keys, values, strict=True)}


def call_variable(name: str, arguments: list[Node]) -> Node:
    """Returns a node that calls the function in the variable `name`."""
    return lambda scope: scope.values[name](*(argument(scope) for argument in arguments))


def call(function: Callable[..., Any], arguments: list[Node]) -> Node:
    """Returns a node that calls a built-in function."""
    return lambda scope: function(*(argument(scope) for argument in arguments))


def apply_predicate(function: Callable[..., Any], items: Node, test: Node | None) -> Node:
    """Returns a node that calls a function of a list and a predicate.

    If `test` is None, the value of each element takes the place of the predicate.
    """

    def run(scope: Any) -> Any:
        def predicate(item: Any) -> Any:
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
        return function(found, predicate)

    return run


def choice(condition: Node, then: Node, otherwise: Node) -> Node:
    """Returns a node for `condition ? then : otherwise`."""
    return lambda scope: then(scope) if truth(condition(scope)) else otherwise(scope)


def member(node: Node, key: Node, *, optional: bool) -> Node:
    """Returns a node for a field of a map, or an element of a list.

    Negative indexes count from the end. If `optional` is true, any member of nil is nil.
    """

    def run(scope: Any) -> Any:
        value = node(scope)
        if value is None and optional:
            return None
        index = key(scope)
        if isinstance(value, dict):
            return value.get(index)
        if not isinstance(value, list | str):
            raise TypeError(f"{shown(value)} has no member {shown(index)}")
        return value[index]

    return run


def part(node: Node, start: Node | None, end: Node | None) -> Node:
    """Returns a node for a slice of a list or a string."""
    return lambda scope: node(scope)[start(scope) if start else None : end(scope) if end else None]


def unary(operator: str, node: Node) -> Node:
    """Returns a node for the unary operators `not`, `!`, `-` and `+`."""
    if operator in ("not", "!"):
        return negated(node)
    sign = -1 if operator == "-" else 1
    return lambda scope: sign * number(node(scope))


def negated(node: Node) -> Node:
    """Returns a node for the negation of a truth value."""
    return lambda scope: not truth(node(scope))


def binary(operator: str, left: Node, right: Node) -> Node:
    """Returns a node for a binary operator.

    `and`, `or` and `??` evaluate the right node only if they need it.
    """
    if operator in ("and", "&&"):
        return lambda scope: truth(left(scope)) and truth(right(scope))
    if operator in ("or", "||"):
        return lambda scope: truth(left(scope)) or truth(right(scope))
    if operator == "??":
        return lambda scope: right(scope) if (value := left(scope)) is None else value
    function = _BINARY[operator]
    return lambda scope: function(left(scope), right(scope))


def truth(value: Any) -> bool:
    """Returns the value if it is True or False. Raises TypeError otherwise."""
    if not isinstance(value, bool):
        raise TypeError(f"true or false was expected, not {shown(value)}")
    return value


def number(value: Any) -> Any:
    """Returns the value if it is a number. Raises TypeError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"a number was expected, not {shown(value)}")
    return value


def text(value: Any) -> str:
    """Returns the value if it is a string. Raises TypeError otherwise."""
    if not isinstance(value, str):
        raise TypeError(f"a string was expected, not {shown(value)}")
    return value


def equal(left: Any, right: Any) -> bool:
    """Returns True if two values are equal. The values true and 1 are not equal."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)


def shown(value: Any) -> str:
    """Returns a value as text for an error message."""
    return f"{value!r}"[:40]


def _added(left: Any, right: Any) -> Any:
    return left + text(right) if isinstance(left, str) else number(left) + number(right)


def _before(left: Any, right: Any) -> bool:
    return left < text(right) if isinstance(left, str) else bool(number(left) < number(right))


def _within(left: Any, right: Any) -> bool:
    if isinstance(right, dict):
        return left in right
    if not isinstance(right, list):
        raise TypeError(f"a list or map was expected after 'in', not {shown(right)}")
    return any(equal(left, item) for item in right)


def _range(left: Any, right: Any) -> list[int]:
    if number(right) - number(left) >= MAX_RANGE:
        raise ValueError(f"a range of more than {MAX_RANGE} numbers")
    return list(range(left, right + 1))


_BINARY: Final[dict[str, Callable[[Any, Any], Any]]] = {
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
