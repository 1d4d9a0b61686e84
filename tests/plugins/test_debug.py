"""The directive *debug*."""

from __future__ import annotations

from svcdns.plugins.debug import Options
from tests.support import world


def test_takes_neither_arguments_nor_a_block() -> None:
    assert world.options("debug", "debug") == Options()
    assert (
        world.rejection("debug", "debug loud")
        == "2:7 Wrong argument count: 'loud' behind 'debug', no argument expected"
    )
    assert world.rejection("debug", "debug {\n}") == "2:1 'debug' takes no block"
