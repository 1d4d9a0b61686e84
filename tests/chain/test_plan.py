"""Errors that a plugin's `parse` raises: one line with the plugin's name and the position of the directive."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from svcdns.chain.plan import plan
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.parser import parse
from svcdns.errors import SvcdnsError
from svcdns.plugin_api import Network, Plugin, names


def planned(read: Any) -> None:
    """Plans a Corefile with the directive `one`. Its `parse` calls `read`."""
    module: Any = SimpleNamespace(PLUGIN=Plugin, parse=lambda block: read(block.directives[0].arguments[0].text))
    text = f". {{\n  one {'a' * 64}.example.org\n}}\n"
    plan(parse(text, "Corefile", environ={}), ("one",), lambda _name: module)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (names.from_text, "Error during parsing: plugin/one: label of 64 octets; 1 to 63 are allowed"),
        (Network.from_text, f"Error during parsing: plugin/one: '{'a' * 64}.example.org' is not a network; "),
        (int, "plugin/one: parse failed: ValueError: invalid literal for int() with base 10: "),
        ({}.__getitem__, "plugin/one: parse failed: KeyError: 'aaaa"),
    ],
)
def test_an_error_of_parse_has_its_position(read: Any, text: str) -> None:
    with pytest.raises(SvcdnsError) as raised:
        planned(read)
    assert str(raised.value).startswith(f"Corefile:2:3 - {text}")


def test_an_error_with_a_position_is_raised_as_it_is() -> None:
    error = CorefileError(parse(". {\n}\n", "Corefile", environ={}).blocks[0].keys[0].position, "wrong")

    def read(_text: str) -> None:
        raise error

    with pytest.raises(CorefileError) as raised:
        planned(read)
    assert raised.value is error
