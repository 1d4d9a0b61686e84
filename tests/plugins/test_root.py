"""The directive *root*."""

from __future__ import annotations

from svcdns.plugins.root import Options
from tests.support import world


def test_the_last_directive_applies() -> None:
    assert world.options("root", "root zones\nroot other") == Options("other")


def test_takes_one_folder() -> None:
    assert world.rejection("root", "root").startswith("2:1 Wrong argument count")
    assert world.rejection("root", "root a b").startswith("2:8 Wrong argument count")
