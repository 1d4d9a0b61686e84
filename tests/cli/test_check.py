"""The command `svcdns check`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from svcdns.cli import commands

BROKEN = ". {\n cahce 30\n\tforward . 192.0.2.1 {\n  policy fastest\n }\n}\n"


@pytest.fixture
def corefile(tmp_path: Path) -> Path:
    path = tmp_path / "Corefile"
    path.write_text(BROKEN)
    return path


def test_problems_have_their_line_and_their_mend(corefile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["check", str(corefile)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (f"{corefile}:2:2: error: Unknown directive 'cahce' (did you mean 'cache'?) [unknown-directive]")
    assert lines[1:3] == ["     cahce 30", "     ^"]
    assert lines[-1] == f"{corefile}: 2 errors; svcdns does not start with it"


def test_an_error_with_which_the_server_starts(corefile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corefile.write_text(". {\n health :8080\n ready 127.0.0.1:8080\n whoami\n}\n")
    assert commands.run(["check", str(corefile)]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"{corefile}: 1 error; svcdns starts, but a part of the Corefile does not work"


def test_a_right_file_has_none(corefile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corefile.write_text(". {\n whoami\n}\n")
    assert commands.run(["check", str(corefile)]) == 0
    assert capsys.readouterr().out == f"{corefile}: no problems\n"


def test_warnings_are_failures_only_if_strict(corefile: Path) -> None:
    corefile.write_text(". {\n whoami\n}\n}\n")
    assert commands.run(["check", str(corefile)]) == 0
    assert commands.run(["check", str(corefile), "--strict"]) == 1


def test_json(corefile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["check", str(corefile), "--output", "json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["starts"], found["errors"]) == (1, False, 2)
    assert [(one["line"], one["column"]) for one in found["problems"]] == [(2, 2), (4, 10)]


def test_what_cannot_be_read_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["check", str(tmp_path / "absent")]) == 2
    assert "no such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--nosuch"], ["--output", "xml"], ["a", "b"], ["--size", "x"]])
def test_wrong_arguments_are_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["check", *arguments]) == 2
    assert capsys.readouterr().err


def test_against_coredns(corefile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corefile.write_text(". {\n forward . 192.0.2.1 {\n  leak_guard off\n }\n}\n")
    assert commands.run(["check", str(corefile), "--against", "coredns"]) == 0
    assert "CoreDNS does not start with 'leak_guard'" in capsys.readouterr().out


def test_rbac(corefile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corefile.write_text(". {\n kubernetes cluster.local {\n  pods verified\n }\n}\n")
    assert commands.run(["check", str(corefile), "--rbac"]) == 0
    role = yaml.safe_load(capsys.readouterr().out)
    assert role["rules"][0] == {
        "apiGroups": [""], "resources": ["services", "namespaces", "pods"], "verbs": ["list", "watch"]
    }  # fmt: skip


def test_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["check", "--size", "services=10000,endpoints=10000"]) == 0
    assert capsys.readouterr().out.startswith("expected: 91 MiB\n")


def test_fix_writes_the_file_and_keeps_its_mode(corefile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corefile.chmod(0o640)
    assert commands.run(["check", "--fix", str(corefile)]) == 0
    assert corefile.read_text() == ". {\n    cahce 30\n    forward . 192.0.2.1 {\n        policy fastest\n    }\n}\n"
    assert corefile.stat().st_mode & 0o777 == 0o640
    assert commands.run(["check", "--fix", str(corefile)]) == 0
    assert "is well formatted" in capsys.readouterr().out


def test_fix_through_a_link_keeps_the_link(corefile: Path) -> None:
    link = corefile.with_name("link")
    link.symlink_to(corefile)
    assert commands.run(["check", "--fix", str(link)]) == 0
    assert link.is_symlink()
    assert corefile.read_text().startswith(". {\n    cahce")


def test_fix_with_diff_writes_nothing(corefile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["check", "--fix", "--diff", str(corefile)]) == 1
    assert corefile.read_text() == BROKEN
    assert "+    cahce 30\n" in capsys.readouterr().out


def test_fix_refuses_a_file_that_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["check", "--fix", str(tmp_path / "absent")]) == 2
    assert "absent" in capsys.readouterr().err
