"""Manual pages, made from the help of the commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from svcdns.__main__ import TOOLS
from svcdns.cli import commands

SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES"]


@pytest.mark.parametrize("name", [name for name in TOOLS if name != "completion"])
def test_each_page_has_the_usual_sections(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["man", name]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f'.TH "SVCDNS-{name.upper()}" "1"')
    found = re.findall(r"^\.SH (.+)$", text, re.MULTILINE)
    expected = [one for one in SECTIONS if one != "EXAMPLES" or name != "man"]
    assert [one for one in found if one != "COMMANDS"] == expected
    assert ("COMMANDS" in found) == (name in ("cache", "interface"))
    assert "\b" not in text


def test_the_page_of_the_program_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["man"]) == 0
    text = capsys.readouterr().out
    assert all(f"\\fBsvcdns {name}\\fR" in text for name in TOOLS)


def test_the_page_of_a_group_has_the_options_of_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["man", "cache"]) == 0
    text = capsys.readouterr().out
    assert "\\fBsvcdns cache flush\\fR\nRemove stored replies.\n.RS\n.PP\nArguments: [OPTIONS] [NAME] [TYPE]" in text
    assert text.count("\\fB\\-\\-socket PATH\\fR") == 3


def test_special_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["man", "check"]) == 0
    text = capsys.readouterr().out
    assert "\\-\\-output" in text
    assert "  svcdns check                              the file Corefile in this folder\n" in text


def test_all_pages_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["man", "--write", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"svcdns.1", *(f"svcdns-{name}.1" for name in TOOLS)}
    assert capsys.readouterr().out.count("\n") == len(TOOLS) + 1


@pytest.mark.parametrize("arguments", [["nosuch"], ["--write", "/absent/folder"]])
def test_what_cannot_run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["man", *arguments]) == 2
    assert capsys.readouterr().err
