"""CoreDNS's command line (docs/behaviour/corefile.md#command-line)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from svcdns.cli.arguments import parse, parser

PAGE = Path(__file__).parents[2] / "docs" / "corefile.md"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param([], {"conf": None, "port": 53, "quiet": False}, id="nothing"),
        pytest.param(["-conf", "F"], {"conf": "F"}, id="one dash"),
        pytest.param(["--conf=F"], {"conf": "F"}, id="two dashes, equals sign"),
        pytest.param(["-dns.port=54"], {"port": 54}, id="dns.port"),
        pytest.param(["-p", "55"], {"port": 55}, id="p"),
        pytest.param(["-quiet", "-pidfile", "P"], {"quiet": True, "pidfile": "P"}, id="quiet, pidfile"),
        pytest.param(["-version"], {"version": True}, id="version"),
        pytest.param(["-plugins"], {"plugins": True}, id="plugins"),
    ],
)
def test_options_have_one_dash_or_two(words: list[str], expected: dict[str, object]) -> None:
    found = vars(parse("svcdns", words))
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("words", [["-nothing"], ["-conf"], ["-p", "x"], ["-con", "F"]])
def test_wrong_arguments_end_with_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse("svcdns", words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: svcdns")


def test_docs_corefile_has_every_flag() -> None:
    rows = re.findall(r"^\| (`-.*?`) \|", PAGE.read_text(), re.MULTILINE)
    flags = {word for row in rows for word in re.findall(r"`(-[a-z.]+)", row)}
    known = {word for action in parser("svcdns")._actions for word in action.option_strings if word[1] != "-"}
    assert flags == known
