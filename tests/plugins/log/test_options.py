"""The options of the plugin *log*."""

from __future__ import annotations

from tests.support import world


def test_rejects() -> None:
    assert world.rejection("log", "log {\n class good\n}").startswith("3:8 'good' is unknown; one of all, success")
    assert world.rejection("log", "log {\n klass all\n}") == "3:2 unknown property 'klass' (did you mean 'class'?)"
