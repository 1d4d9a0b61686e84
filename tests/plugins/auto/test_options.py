"""The options of *auto* (docs/behaviour/plugins.md#auto)."""

from __future__ import annotations

import pytest

from svcdns.plugins.auto.options import Directory
from tests.support import world


def directory(text: str, **fields: str) -> Directory:
    """Returns the options of one directive."""
    (found,) = world.options("auto", text, **fields).directories
    assert isinstance(found, Directory)
    return found


def test_the_defaults() -> None:
    """Files are named `db.ZONE`, the folder is scanned once a minute, and the zones are those of the block."""
    found = directory("auto {\n directory zones\n}", zones="org", root="/etc/dns")
    assert (found.path, found.zones, found.reload) == ("/etc/dns/zones", ("org.",), 60.0)
    assert found.origin("db.example.org") == "example.org"
    assert found.origin("example.org.zone") is None


@pytest.mark.parametrize(
    ("words", "name", "origin"),
    [
        pytest.param(r"www\.db\.(.*) {1}", "www.db.example.org", "example.org", id="a group"),
        pytest.param(r"(\w+)-(\w+) {2}.{1}", "example-org", "org.example", id="two groups"),
        pytest.param(r"(?P<zone>.*)\.zone {zone}", "example.org.zone", "example.org", id="a named group"),
        pytest.param(r"(.*)\.zone $1", "example.org.zone", "example.org", id="a group as in Go"),
        pytest.param(r"(.*)\.zone a$${1}", "b.zone", "a$b", id="a dollar sign"),
        pytest.param(r"(.*)\.zone {1}", "b.zone.bak", "b", id="the pattern is not anchored"),
        pytest.param(r"(.*)\.zone {2}", "b.zone", None, id="a group that is not there"),
        pytest.param(r"(.*) bliep", "anything", "bliep", id="a fixed name"),
    ],
)
def test_the_name_of_a_zone(words: str, name: str, origin: str | None) -> None:
    assert directory(f"auto {{\n directory /tmp {words}\n}}").origin(name) == origin


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("auto {\n directory\n}", "3:2 Wrong argument count", id="no folder"),
        pytest.param("auto {\n directory d (.*)\n}", "3:14 Wrong argument count", id="no template"),
        pytest.param("auto {\n directory d (.*) {1} x\n}", "3:23 Wrong argument count", id="too many words"),
        pytest.param("auto {\n directory d * {1}\n}", "3:14 '*' is not a regular expression", id="no pattern"),
        pytest.param("auto {\n directory d .* {1}\n}", "3:14 Need at least one sub expression", id="no group"),
        pytest.param(f"auto {{\n directory d ({'a' * 10000}) x\n}}", "3:14 regex pattern too long", id="too long"),
        pytest.param("auto {\n reload\n}", "3:2 reload duration value is expected", id="no duration"),
        pytest.param("auto {\n reload -1s\n}", "3:9 invalid duration", id="negative"),
        pytest.param("auto {\n reload 5\n}", "3:9 '5' is not a duration", id="no unit"),
        pytest.param("auto {\n no_reload\n}", "3:2 unknown property 'no_reload' (did you mean 'reload'?)", id="old"),
        pytest.param("auto {\n transfer to *\n}", "3:2 unknown property 'transfer'", id="transfer"),
        pytest.param("auto {\n fallthrough\n}", "3:2 unknown property 'fallthrough'", id="as CoreDNS"),
    ],
)
def test_rejected_directives(text: str, error: str) -> None:
    assert world.rejection("auto", text).startswith(error)


def test_words_without_effect_are_warnings() -> None:
    """`upstream`, words after the duration, and a directive without a folder cause warnings."""
    assert [line.partition(" - ")[2] for line in directory("auto {\n upstream 1.1.1.1\n reload 5s x\n}").warnings] == [
        "'x' behind 'reload' is ignored",
        "'upstream' is ignored, it has no effect any more",
        "no 'directory' is given, so that there are no zones",
    ]
