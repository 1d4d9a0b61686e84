"""Expressions: values and errors."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugin_api.expressions import EvaluationError, ExpressionError, compile_expression

VALUES = {
    "name": lambda: "a.example.org.",
    "add": lambda *numbers: sum(numbers),
    "n": 3,
    "m": {"k": [1, 2]},
    "none": None,
}


def run(text: str) -> Any:
    """Returns the value of an expression. VALUES has the values of names."""
    return compile_expression(text, {"name", "add"}, {"n", "m", "none"}).run(VALUES)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("1 + 2 * 3", 7, id="product before sum"),
        pytest.param("(1 + 2) * 3", 9, id="parentheses"),
        pytest.param("2 ** 3 ** 2", 512.0, id="power from the right"),
        pytest.param("7 % 4 - -1", 4, id="rest and sign"),
        pytest.param("7 / 2", 3.5, id="division"),
        pytest.param("'a' + \"b\"", "ab", id="texts added"),
        pytest.param("n == 3 and not (n > 4)", True, id="and, not"),
        pytest.param("n < 3 || n >= 3 && n != 4", True, id="or, and"),
        pytest.param("n - 2 == true", False, id="true is not 1"),
        pytest.param("1 == 1.0", True, id="numbers of two kinds"),
        pytest.param("'b' > 'a'", True, id="texts in order"),
        pytest.param("n in [1, 3]", True, id="in a list"),
        pytest.param("n not in 1..2", True, id="not in a range"),
        pytest.param("'k' in m", True, id="in a map"),
        pytest.param("name() matches '^a[.]'", True, id="matches"),
        pytest.param("name() matches ('^' + 'b')", False, id="a pattern made at run time"),
        pytest.param(
            "name() contains 'example' and name() startsWith 'a.' and name() endsWith 'org.'", True, id="parts of text"
        ),
        pytest.param("name() not contains 'y'", True, id="not contains"),
        pytest.param("n > 2 ? 'big' : 'small'", "big", id="a choice"),
        pytest.param("false ? 1 : true ? 2 : 3", 2, id="a choice in a choice"),
        pytest.param("none ?? 5", 5, id="a value for nil"),
        pytest.param("m.k[1] + m['k'][-1]", 4, id="members"),
        pytest.param("m.x?.y", None, id="a member of nil"),
        pytest.param("none?.x", None, id="optional"),
        pytest.param("[1, 2, 3][1:]", [2, 3], id="from"),
        pytest.param("'abcd'[:2]", "ab", id="up to"),
        pytest.param("{a: 1, 'b': 2, (name()): 3}.b", 2, id="a map"),
        pytest.param("add(1, add(2, 3),)", 6, id="calls"),
        pytest.param("name() | split('.') | len()", 4, id="pipes"),
        pytest.param("[1, 2] | map(# * 2) | last()", 4, id="a pipe into a predicate"),
        pytest.param("filter([1, 2, 3], # > 1)", [2, 3], id="filter"),
        pytest.param("all([{x: 1}], {.x == 1})", True, id="a field of the element, in braces"),
        pytest.param("any([1], # == 1 and any([2], # == 2))", True, id="predicates within each other"),
        pytest.param("sum([1, 2])", 3, id="a predicate left out"),
    ],
)
def test_values(text: str, value: Any) -> None:
    found = run(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"), pytest.param("1 +", id="half an operator"), pytest.param("(1", id="open parenthesis"),
        pytest.param("1 2", id="two values"), pytest.param("unknown", id="an unknown name"), pytest.param("unknown()", id="function"),
        pytest.param("name", id="a function without its call"), pytest.param("a.", id="no field"), pytest.param("1 | 2", id="no function"),
        pytest.param("x matches '('", id="a bad pattern"), pytest.param("name() matches '('", id="a bad pattern after a call"),
        pytest.param("#", id="an element of nothing"), pytest.param("{1", id="open map"), pytest.param("{[]: 1}", id="an invalid key"),
        pytest.param("true ? 1", id="a choice without its end"), pytest.param("(" * 200 + "1" + ")" * 200, id="too deep"),
    ],
)  # fmt: skip
def test_invalid_expressions(text: str) -> None:
    """The error is raised when the expression is compiled."""
    with pytest.raises(ExpressionError):
        compile_expression(text, {"name"})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("n + 'a'", id="number and text"), pytest.param("'a' + n", id="text and number"), pytest.param("not n", id="not"),
        pytest.param("n and true", id="and"), pytest.param("1 / 0", id="division by zero"), pytest.param("[1][5]", id="no element"),
        pytest.param("n.x", id="a member of a number"), pytest.param("1 in n", id="in a number"), pytest.param("'a' < n", id="order"),
        pytest.param("1..10000000", id="a range too long"), pytest.param("map(1, #)", id="not a list"), pytest.param("add('a')", id="call"),
        pytest.param("name() matches ('(' + '')", id="a pattern"), pytest.param("(n == 3 ? true : n) + 1", id="a boolean is not a number"),
        pytest.param("9.0 ** 9999", id="too large"),
    ],
)  # fmt: skip
def test_evaluation_errors(text: str) -> None:
    with pytest.raises(EvaluationError):
        run(text)


def test_operands_are_evaluated_if_needed() -> None:
    """`and`, `or`, `??` and `?:` evaluate only the operands that they need."""
    for text in ("false and 1/0 == 1", "true or 1/0 == 1", "1 ?? (1/0)", "true ? 1 : 1/0"):
        run(text)


def test_calls() -> None:
    """`calls` has the names of the called functions. Expressions with equal text are equal."""
    expression = compile_expression("add(len(name()))", {"name", "add", "other"})
    assert expression.calls == {"name", "add"}
    assert expression == compile_expression("add(len(name()))", {"name", "add"}) != compile_expression("add()", {"add"})
