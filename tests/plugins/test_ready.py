"""The options of *ready*."""

from __future__ import annotations

import pytest

from svcdns.plugins.ready import Options
from tests.support import world


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param("ready", Options(("", 8181)), id="default"),
        pytest.param("ready 127.0.0.1:1", Options(("127.0.0.1", 1)), id="address"),
        pytest.param("ready {\n monitor continuously\n}", Options(("", 8181), continuously=True), id="monitor"),
    ],
)
def test_reads(text: str, read: Options) -> None:
    assert world.options("ready", text) == read


def test_rejects() -> None:
    """The error for an unknown mode names the known modes."""
    error = "3:10 'often' is unknown; one of until-ready, continuously was expected"
    assert world.rejection("ready", "ready {\n monitor often\n}") == error
