"""Functions of the expression language expr."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugin_api.expressions import EvaluationError, compile_expression


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("len('abc')", 3), ("int('12') + int(3.9)", 15), ("float('1.5')", 1.5), ("string(5) + string(true) + string(nil)", "5truenil"),
        ("string(1.5)", "1.5"), ("abs(-2)", 2), ("ceil(1.2)", 2.0), ("floor(-1.2)", -2.0), ("round(2.5)", 3.0), ("round(-2.5)", -3.0),
        ("min(3, 1)", 1), ("max([3, 7])", 7), ("mean(1, 2)", 1.5), ("trim(' a ')", "a"), ("trim('xax', 'x')", "a"),
        ("trimPrefix('abc', 'a')", "bc"), ("trimSuffix('abc', 'c')", "ab"), ("upper('a') + lower('B')", "Ab"),
        ("split('a.b.c', '.')", ["a", "b", "c"]), ("split('a.b.c', '.', 2)", ["a", "b.c"]), ("split('ab', '')", ["a", "b"]),
        ("replace('a.b', '.', '-')", "a-b"), ("repeat('ab', 2)", "abab"), ("join(['a', 'b'], '.')", "a.b"), ("join(['a', 'b'])", "ab"),
        ("indexOf('abcb', 'b')", 1), ("lastIndexOf('abcb', 'b')", 3), ("indexOf('a', 'x')", -1), ("hasPrefix('ab', 'a')", True),
        ("hasSuffix('ab', 'a')", False), ("first([1, 2])", 1), ("last([])", None), ("take([1, 2, 3], 2)", [1, 2]),
        ("reverse([1, 2])", [2, 1]), ("sort([2, 1])", [1, 2]), ("sort([1, 2], 'desc')", [2, 1]), ("uniq([1, true, 1])", [1, True]),
        ("concat([1], [2])", [1, 2]), ("keys({a: 1})", ["a"]), ("values({a: 1})", [1]), ("get({a: 1}, 'b')", None), ("get([5], 0)", 5),
        ("get([5], 1)", None), ("bitand(6, 3)", 2), ("bitor(6, 3)", 7), ("bitxor(6, 3)", 5), ("bitshl(1, 63)", -(1 << 63)),
        ("bitshr(8, 2)", 2), ("none([1], # > 1)", True), ("one([1, 2], # > 1)", True), ("count([1, 2], # > 0)", 2),
        ("find([1, 2], # > 1)", 2), ("find([1], # > 1)", None), ("findIndex([1, 2], # > 1)", 1), ("map([1], # + 1)", [2]),
        ("sum([1, 2], # * 2)", 6), ("any([], true)", False), ("all([], false)", True),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_functions(text: str, value: Any) -> None:
    assert compile_expression(text, ()).run({}) == value


@pytest.mark.parametrize(
    "text", ["int('x')", "int(1e30)", "repeat('a', 100000)", "len(1)", "upper(1)", "len()", "filter([1], #)"]
)
def test_invalid_arguments(text: str) -> None:
    with pytest.raises(EvaluationError):
        compile_expression(text, ()).run({})
