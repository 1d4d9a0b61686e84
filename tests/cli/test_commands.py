"""The commands for operators."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from svcdns import __main__ as program
from svcdns.cli import commands


def test_the_program_knows_the_commands() -> None:
    assert set(program.TOOLS) == set(commands.svcdns.list_commands(click.Context(commands.svcdns)))


@pytest.mark.parametrize("name", program.TOOLS)
def test_each_command_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run([name, "--help"]) == 0
    assert "Examples:" in capsys.readouterr().out


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["chekc"]) == 2
    assert "Did you mean 'check'?" in capsys.readouterr().err


@pytest.mark.parametrize(("shell", "word"), [("bash", "complete "), ("zsh", "#compdef svcdns"), ("fish", "complete ")])
def test_completion_scripts(
    shell: str, word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert commands.run(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert word in out
    assert commands.COMPLETION in out


def test_a_shell_gets_completions() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "svcdns"],
        env={"_SVCDNS_COMPLETE": "bash_complete", "COMP_WORDS": "svcdns ch", "COMP_CWORD": "1"},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert "check" in done.stdout
