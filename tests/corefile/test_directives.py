"""Unknown directives, and directives that svcdns does not have yet."""

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
        ("whoami", "directive 'whoami' is one of CoreDNS's that svcdns does not have yet"),
    ],
)
def test_the_error_suggests_the_nearest_directive(word: str, message: str) -> None:
    with pytest.raises(CorefileError) as caught:
        check_directives(parse(f". {{\n  {word} x\n}}", "Corefile", environ={}), ORDER, set(BUILT) - {"whoami"})
    assert str(caught.value) == f"Corefile:2:3 - Error during parsing: {message}"


def test_every_plugin_has_a_position_in_the_chain() -> None:
    assert set(BUILT) <= set(ORDER)
