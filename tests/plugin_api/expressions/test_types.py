"""Types of expressions that are known when a Corefile is read."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.expressions import FUNCTIONS, ExpressionError, compile_expression


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("name() == 1", "invalid operation: == (mismatched types string and int)", id="text and number"),
        pytest.param("name() + 1 == 'a'", "invalid operation: + (mismatched types string and int)", id="sum"),
        pytest.param("not name()", "invalid operation: not (mismatched type string)", id="not"),
        pytest.param("-do()", "invalid operation: - (mismatched type bool)", id="sign"),
        pytest.param("do() and size()", "invalid operation: and (mismatched types bool and int)", id="and"),
        pytest.param("size() < '512'", "invalid operation: < (mismatched types int and string)", id="order"),
        pytest.param("port() > 1024", "invalid operation: > (mismatched types string and int)", id="a port is text"),
        pytest.param("id() matches 'a'", "invalid operation: matches (mismatched types int and string)", id="pattern"),
        pytest.param("type() in 'A'", "invalid operation: in (mismatched types string and string)", id="in a text"),
        pytest.param("size() % 1.5 == 0", "invalid operation: % (mismatched types int and float)", id="rest"),
        pytest.param("name() * 2", "invalid operation: * (mismatched types string and int)", id="product"),
        pytest.param("true == 1", "invalid operation: == (mismatched types bool and int)", id="literals"),
        pytest.param("name() ? 1 : 2", "non-bool expression (type string) used as condition", id="condition"),
        pytest.param("incidr('10.0.0.0/8')", "not enough arguments to call incidr", id="too few arguments"),
        pytest.param("name('a')", "too many arguments to call name", id="too many arguments"),
        pytest.param("incidr(1, 'x')", "cannot use int as argument (type string) to call incidr", id="argument"),
        pytest.param("metadata(size())", "cannot use int as argument (type string) to call metadata", id="label"),
        pytest.param("len(name()) == 'a'", "invalid operation: == (mismatched types int and string)", id="built-in"),
    ],
)
def test_wrong_types(text: str, error: str) -> None:
    """An operand that certainly has a wrong type is an error before the expression runs."""
    with pytest.raises(ExpressionError) as found:
        compile_expression(text, FUNCTIONS)
    assert str(found.value) == error


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        pytest.param("incidr(client_ip(), '10.0.0.0/8') && type() in ['A', 'AAAA']", "bool", id="condition"),
        pytest.param("(type() == 'A' && name() == 'example.com.') || client_ip() == '1.2.3.4'", "bool", id="or"),
        pytest.param("name() == nil", "bool", id="nil"),
        pytest.param("size() / 2 < 1.5", "bool", id="numbers of two kinds"),
        pytest.param("[1, 'a'][0] + 1", "unknown", id="an element"),
        pytest.param("do() ? 'a' : 'b'", "string", id="choice"),
        pytest.param("do() ? 'a' : 1", "unknown", id="choice of two types"),
        pytest.param("name() + '.'", "string", id="texts"),
        pytest.param("1..3", "array", id="range"),
        pytest.param("x", "unknown", id="variable"),
        pytest.param("x > 'a' and x in x and not x and -x == x", "bool", id="a variable fits everywhere"),
        pytest.param("{a: 1}", "map", id="map"),
        pytest.param("any(split(name(), '.'), # == 'a')", "bool", id="predicate"),
        pytest.param("size() + 1", "int", id="sum"),
    ],
)
def test_types(text: str, kind: str) -> None:
    """The type of the value is known where it cannot be another."""
    assert compile_expression(text, FUNCTIONS, {"x"}).kind == kind
