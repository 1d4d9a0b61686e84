"""Unknown directives and those that are not built yet."""

from __future__ import annotations

import pytest

from svcdns.corefile.directives import check_directives
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.parser import parse
from svcdns.plugins import BUILT, ORDER


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("forwad", "Unknown directive 'forwad' (did you mean 'forward'?)"),
        ("xyzzy", "Unknown directive 'xyzzy'"),
        ("dnssec", "directive 'dnssec' is one of CoreDNS's that svcdns does not have yet"),
    ],
)
def test_refuses(word: str, message: str) -> None:
    """The error has the position, and suggests the nearest known name, or says that svcdns does not have the
    directive yet.
    """
    with pytest.raises(CorefileError) as caught:
        check_directives(parse(f". {{\n  {word} x\n}}", "Corefile", environ={}), ORDER, BUILT)
    assert str(caught.value) == f"Corefile:2:3 - Error during parsing: {message}"


def test_everything_built_is_known() -> None:
    """Every implemented plugin has a position in the chain."""
    assert set(BUILT) <= set(ORDER)
