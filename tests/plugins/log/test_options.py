"""The options of the plugin *log*."""

from __future__ import annotations

from tests.support import world


def test_rejects() -> None:
    assert world.rejection("log", "log {\n class good\n}").startswith("3:8 'good' is unknown; one of all, success")
    assert world.rejection("log", "log {\n format text\n}") == "3:9 'text' is unknown; one of json was expected"
    assert world.rejection("log", "log {\n every 0\n}").startswith("3:8 0 is out of range; 1 or more")
    assert world.rejection("log", "log {\n slower 5\n}").startswith("3:9 '5' is not a duration")
    twice = "3:2 the format of this directive is given twice"
    assert world.rejection("log", 'log . "{name}" {\n format json\n}') == twice
    assert world.rejection("log", "log {\n klass all\n}") == "3:2 unknown property 'klass' (did you mean 'class'?)"
