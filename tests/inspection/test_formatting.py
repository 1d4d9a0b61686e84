"""Formatting a Corefile. The words and the comments stay the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.corefile.lexer import tokens
from svcdns.inspection.formatting import formatted

BROKEN = Path(__file__).parent / "broken_corefiles"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "\n\n. {\nerrors   # why\n\n\n  health {\n lameduck 5s\n }\n}\n\n",
            ". {\n    errors   # why\n\n    health {\n        lameduck 5s\n    }\n}\n",
            id="levels and empty lines",
        ),
        pytest.param('# top\n.{\nlog  . "a  b" x\n}', '# top\n.{\nlog . "a  b" x\n}\n', id="a key with its brace"),
        pytest.param(
            '. {\n log . "a\n   b"\n whoami\n}\n', '. {\n log . "a\n   b"\n    whoami\n}\n', id="quoted lines"
        ),
        pytest.param('. {\n log . "a \\" b"\n}\n', '. {\n    log . "a \\" b"\n}\n', id="escaped quote"),
        pytest.param("a {\n}\n}\nb {\n whoami\n}\n", "a {\n}\n}\nb {\n    whoami\n}\n", id="one brace too many"),
        pytest.param("a {\r\n whoami\r\n}\r\n", "a {\n    whoami\n}\n", id="carriage returns"),
        pytest.param("a {\n whoami#x y\n}\n", "a {\n    whoami#x y\n}\n", id="comment in a word"),
    ],
)
def test_formats(text: str, expected: str) -> None:
    assert formatted(text, "Corefile") == expected


@pytest.mark.parametrize("path", sorted(BROKEN.glob("*.Corefile")), ids=lambda path: path.stem)
def test_the_words_and_their_lines_stay(path: Path) -> None:
    text = path.read_text()
    new = formatted(text, "f")
    assert [word.text for word in tokens(new, "f")] == [word.text for word in tokens(text, "f")]
    assert formatted(new, "f") == new


def test_a_quote_without_its_end_is_an_error() -> None:
    with pytest.raises(CorefileError):
        formatted('. {\n log "x\n}\n', "Corefile")
