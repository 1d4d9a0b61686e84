"""Values in templates: text, truth and formatting."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugins.template.go_template.values import NO_VALUE, RenderError, Struct, printf, to_text, truth


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("a", "a", id="text"), pytest.param(None, "<nil>", id="nothing"), pytest.param(NO_VALUE, "<no value>", id="no value"),
        pytest.param(False, "false", id="false"), pytest.param(12, "12", id="a number"), pytest.param(1.5, "1.5", id="a fraction"),
        pytest.param(2.0, "2", id="a whole fraction"), pytest.param(1e6, "1000000", id="a million"),
        pytest.param(1e16, "10000000000000000", id="large"), pytest.param(1e21, "1e+21", id="very large"),
        pytest.param(1.25e-5, "1.25e-05", id="small"), pytest.param(0.0, "0", id="zero"),
        pytest.param(["a", 1, [True]], "[a 1 [true]]", id="a list"), pytest.param({"b": 1, "a": None}, "map[a:<nil> b:1]", id="a map"),
    ],
)  # fmt: skip
def test_to_text(value: Any, text: str) -> None:
    """Values are formatted as Go's `%v` does."""
    assert to_text(value) == text


def test_a_struct_has_no_text() -> None:
    with pytest.raises(RenderError):
        to_text(Struct())


def test_truth() -> None:
    """Empty values are false, and a struct is true."""
    empty: list[Any] = ["", 0, None, [], {}, False, NO_VALUE]
    assert [truth(value) for value in empty] == [False] * 7
    assert [truth(value) for value in ("a", 1, [0], {"a": 0}, True, Struct())] == [True] * 6


@pytest.mark.parametrize(
    ("values", "text"),
    [
        pytest.param(("%v %s %d %t", [1], "a", 2, True), "[1] a 2 true", id="plain"),
        pytest.param(("%q", 'a"b'), '"a\\"b"', id="quoted"),
        pytest.param(("%x %X %o %b %c", 255, 255, 8, 5, 65), "ff FF 10 101 A", id="numbers"),
        pytest.param(("%x %X", "az", "az"), "617a 617A", id="text as hexadecimal"),
        pytest.param(("%5d|%-5d|%05d|%+d|%05d", 1, 2, 3, 4, -5), "    1|2    |00003|+4|-0005", id="widths"),
        pytest.param(("%.2s %.1f %g %e", "abc", 1.25, 0.5, 1.0), "ab 1.2 0.5 1.000000e+00", id="precision"),
        pytest.param(("100%%",), "100%", id="a percent sign"),
        pytest.param(("%d %d", 1), "1 %!d(MISSING)", id="too few"),
        pytest.param(("%d", 1, "a"), "1%!(EXTRA string=a)", id="too many"),
        pytest.param(("%d %s", "a", 1), "%!d(string=a) %!s(int=1)", id="another kind"),
    ],
)
def test_printf(values: tuple[Any, ...], text: str) -> None:
    """`printf` gives the same text as Go's."""
    assert printf(*values) == text


@pytest.mark.parametrize("template", ["%*d", "%9999d"])
def test_widths_have_bounds(template: str) -> None:
    """A width from an argument (`%*d`) and a width of 9999 are errors."""
    with pytest.raises(RenderError):
        printf(template, 1, 2)
