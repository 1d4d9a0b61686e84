"""`svcdns interface`. tests/integration/test_node_local.py runs it in a network namespace."""

from __future__ import annotations

import pytest

from svcdns.cli import commands


def test_an_interface_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["interface", "remove", "--name", "svcdns-absent"]) == 0
    assert capsys.readouterr().out == "svcdns-absent: there is no such interface\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["add", "node"], "'node' is no IP address"),
        (["add", "192.0.2.1", "--name", "lo"], "the interface lo exists, and belongs to another program"),
        (["remove", "--name", "lo"], "the interface lo exists, and belongs to another program"),
    ],
)
def test_what_cannot_be_done(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["interface", *words]) == 2
    assert capsys.readouterr().err == f"Error: {text}\n"
