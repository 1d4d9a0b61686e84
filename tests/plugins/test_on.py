"""The options of `on` (docs/plugins/on.md)."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.settings import EventCommand
from svcdns.plugins.on import On
from tests.support import world


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("on startup cmd arg1 arg2", EventCommand("startup", ("cmd", "arg1", "arg2")), id="startup"),
        pytest.param("on Shutdown cmd &", EventCommand("shutdown", ("cmd",), waits=False), id="in the background"),
        pytest.param("on certrenew cmd", EventCommand("certrenew", ("cmd",)), id="certrenew"),
        pytest.param('on startup "cmd a" "b c"', EventCommand("startup", ("cmd", "a", "b", "c")), id="split again"),
        pytest.param("on startup cmd 'a b'", EventCommand("startup", ("cmd", "a b")), id="quotes of a shell"),
        pytest.param("on startup &", EventCommand("startup", ("&",)), id="a program named &"),
    ],
)
def test_reads_commands(text: str, expected: EventCommand) -> None:
    """The words are joined and split as a shell does, as in CoreDNS."""
    assert On.settings(world.options("on", text)).commands == (expected,)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("on", "2:1 Wrong argument count", id="no event"),
        pytest.param("on xyz cmd", "2:4 Wrong event name or event not supported: 'xyz'", id="unknown event"),
        pytest.param("on startup", "2:4 no command contained in ''", id="no command"),
        pytest.param("on startup cmd 'a", "2:4 error parsing command: No closing quotation", id="open quote"),
    ],
)
def test_rejected_commands(text: str, error: str) -> None:
    """Each invalid directive is an error with the position of the word at fault."""
    assert world.rejection("on", text) == error or world.rejection("on", text).startswith(f"{error} ")
