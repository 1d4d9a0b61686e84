"""The types of expressions, as far as they are known before an expression runs.

A type is known of literals, of functions of the query, and of most operators. An operation whose operands certainly
have wrong types is an error when the Corefile is read, as in CoreDNS. A type that is not known (ANY) fits everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from svcdns.plugin_api.expressions.errors import ExpressionError

ANY: Final = "unknown"
INT, FLOAT, STRING, BOOL, NIL, LIST, MAP = "int", "float", "string", "bool", "nil", "array", "map"
_NUMBERS: Final = frozenset({INT, FLOAT})
_COMPARED: Final = frozenset({"==", "!="})
_ORDERED: Final = frozenset({"<", ">", "<=", ">="})
_LOGICAL: Final = frozenset({"and", "or", "&&", "||"})
_OF_TEXTS: Final = frozenset({"matches", "contains", "startsWith", "endsWith"})
_OF_NUMBERS: Final = frozenset({"-", "*", "/", "**", "^"})

SIGNATURES: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    **dict.fromkeys(("type", "name", "class", "proto", "client_ip", "port", "server_ip", "server_port"), ((), STRING)),
    **dict.fromkeys(("size", "id", "opcode", "bufsize"), ((), INT)),
    "do": ((), BOOL),
    "incidr": ((STRING, STRING), BOOL),
    "metadata": ((STRING,), STRING),
}
"""The types of the arguments and of the result of each function of the query."""
BUILTIN_RESULTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("len", "int", "count", "indexOf", "lastIndexOf"), INT),
    **dict.fromkeys(("float",), FLOAT),
    **dict.fromkeys(
        ("string", "trim", "trimPrefix", "trimSuffix", "upper", "lower", "replace", "repeat", "join"), STRING
    ),
    **dict.fromkeys(("hasPrefix", "hasSuffix", "all", "any", "none", "one"), BOOL),
    **dict.fromkeys(("split", "filter", "map", "keys", "values"), LIST),
}
"""The types of the results of built-in functions, as far as they are always the same."""


def unary(operator: str, operand: str) -> str:
    """Returns the type of a unary operation. Raises ExpressionError if the operand has a wrong type."""
    if operator in ("not", "!"):
        _expect(operand in (BOOL, ANY), f"invalid operation: {operator} (mismatched type {operand})")
        return BOOL
    _expect(operand in (*_NUMBERS, ANY), f"invalid operation: {operator} (mismatched type {operand})")
    return operand


def binary(operator: str, left: str, right: str) -> str:
    """Returns the type of a binary operation. Raises ExpressionError if the operands have wrong types."""
    both = {left, right}
    known = both - {ANY}
    numbers, texts = known <= _NUMBERS, known <= {STRING}
    text = f"invalid operation: {operator} (mismatched types {left} and {right})"
    if operator in _COMPARED:
        _expect(numbers or len(known - {NIL}) < 2, text)
        return BOOL
    if operator in _LOGICAL:
        _expect(known <= {BOOL}, text)
        return BOOL
    if operator in _ORDERED:
        _expect(numbers or texts, text)
        return BOOL
    if operator in _OF_TEXTS:
        _expect(texts, text)
        return BOOL
    if operator == "in":
        _expect(right in (LIST, MAP, ANY), text)
        return BOOL
    if operator == "+":
        _expect(numbers or texts, text)
        return STRING if STRING in both else ANY if ANY in both else FLOAT if FLOAT in both else INT
    if operator in _OF_NUMBERS:
        _expect(numbers, text)
        return ANY if ANY in both else FLOAT if FLOAT in both or operator in ("/", "**", "^") else INT
    if operator in ("%", ".."):
        _expect(known <= {INT}, text)
        return INT if operator == "%" else LIST
    return right if left == right else ANY


def choice(condition: str, then: str, otherwise: str) -> str:
    """Returns the type of a choice. Raises ExpressionError if the condition cannot be true or false."""
    _expect(condition in (BOOL, ANY), f"non-bool expression (type {condition}) used as condition")
    return then if then == otherwise else ANY


def call(name: str, arguments: Sequence[str]) -> str:
    """Returns the type of a call of a function of the query. Raises ExpressionError for wrong arguments."""
    expected, result = SIGNATURES.get(name, (None, ANY))
    if expected is not None:
        how = "not enough" if len(arguments) < len(expected) else "too many"
        _expect(len(arguments) == len(expected), f"{how} arguments to call {name}")
        for found, wanted in zip(arguments, expected, strict=True):
            _expect(found in (wanted, ANY), f"cannot use {found} as argument (type {wanted}) to call {name}")
    return result


def _expect(condition: bool, text: str) -> None:
    if not condition:
        raise ExpressionError(text)
