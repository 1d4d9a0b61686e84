"""Commands that do not serve, and wrong command lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from svcdns import __version__
from svcdns.cli import serve
from svcdns.plugins import BUILT, ORDER


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.run(["-version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"svcdns-{__version__}"
    assert "Python" in second


def test_plugins_are_printed_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.run(["-plugins"]) == 0
    assert capsys.readouterr().out.splitlines() == sorted(BUILT)
    assert set(BUILT) <= set(ORDER)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        pytest.param(["-p", "0"], "-dns.port 0: a port from 1 to 65535 was expected\n", id="port"),
    ],
)
def test_wrong_arguments(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.run(words) == 1
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("line", "reads"),
    [
        pytest.param("manifests -", True, id="alone"),
        pytest.param("manifests a.yaml - {", True, id="with a block"),
        pytest.param("manifests - b", True, id="before another path"),
        pytest.param("manifests a-b -x", False, id="other paths"),
        pytest.param("# manifests -", False, id="comment"),
        pytest.param("kubeconfig -", False, id="another option"),
    ],
)
def test_manifests_from_standard_input(tmp_path: Path, line: str, reads: bool) -> None:
    """The Corefile's text determines whether svcdns reads manifests from standard input."""
    (tmp_path / "Corefile").write_text(f". {{\n  kubernetes {{\n    {line}\n  }}\n}}\n")
    assert serve.reads_manifests_from_standard_input(str(tmp_path / "Corefile")) is reads
    assert not serve.reads_manifests_from_standard_input(str(tmp_path / "no"))


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.run(["help"]) == 0
    assert capsys.readouterr().out.startswith("usage: svcdns ")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("demp", "did you mean 'svcdns demo'?"),
        ("chek", "did you mean 'svcdns check'?"),
        (
            "quit",
            "the commands are serve, cache, check, explain, interface, probe, query, ready, shadow, top, completion, man, "
            "conformance, demo, help",
        ),
    ],
)
def test_an_unknown_command(word: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The error is CoreDNS's. A similar command and the usage follow."""
    assert serve.run([word]) == 1
    line, usage, *_ = capsys.readouterr().err.splitlines()
    assert line == f"extra command line arguments: [{word}]; {meant}"
    assert usage.startswith("usage: svcdns ")
