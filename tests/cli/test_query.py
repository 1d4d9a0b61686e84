"""The command `svcdns query`, as a user runs it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from svcdns.cli import commands

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {{name: {0}}}\nspec: {{clusterIP: {1}, ports: [{{name: http, port: 80}}]}}\n---\n"


@pytest.fixture
def manifests(tmp_path: Path) -> str:
    path = tmp_path / "a.yaml"
    path.write_text(SERVICE.format("web", "10.96.0.1"))
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["web"], "web.default.svc.cluster.local. 5 IN A 10.96.0.1"),
        (["web.default"], "web.default.svc.cluster.local. 5 IN A 10.96.0.1"),
        (["web.default.svc.cluster.local.", "a"], "web.default.svc.cluster.local. 5 IN A 10.96.0.1"),
        (["web.default", "--namespace", "other"], "web.default.svc.cluster.local. 5 IN A 10.96.0.1"),
        (["web", "--zone", "corp.test"], "web.default.svc.corp.test. 5 IN A 10.96.0.1"),
        (
            ["_http._tcp.web.default", "SRV"],
            "_http._tcp.web.default.svc.cluster.local. 5 IN SRV 0 100 80 web.default.svc.cluster.local.",
        ),
        (["1.0.96.10.in-addr.arpa.", "PTR"], "1.0.96.10.in-addr.arpa. 5 IN PTR web.default.svc.cluster.local."),
    ],
)
def test_answers(manifests: str, arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["query", "--manifests", manifests, *arguments]) == 0
    assert capsys.readouterr().out.splitlines() == [line]


def test_a_name_without_records(manifests: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["query", "--manifests", manifests, "absent"]) == 1
    assert capsys.readouterr().err == "absent: NXDOMAIN ('svcdns explain' says why)\n"


def test_all_names(manifests: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["query", "--manifests", manifests, "--all"]) == 0
    assert "web.default.svc.cluster.local. A 10.96.0.1\n" in capsys.readouterr().out
    assert commands.run(["query", "--manifests", manifests, "--all", "--output", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"name": "web.default.svc.cluster.local.", "type": "A", "data": ["10.96.0.1"]} in rows


def test_differences(manifests: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "b.yaml"
    other.write_text(SERVICE.format("web", "10.96.0.9") + SERVICE.format("new", "10.96.0.2"))
    assert commands.run(["query", "--diff", manifests, str(other)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "+ new.default.svc.cluster.local. A 10.96.0.2" in lines
    assert "~ web.default.svc.cluster.local. A 10.96.0.1 -> 10.96.0.9" in lines
    assert commands.run(["query", "--diff", manifests, str(other), "--output", "markdown"]) == 1
    assert "| changes | `web.default.svc.cluster.local.` | A | 10.96.0.1 | 10.96.0.9 |" in capsys.readouterr().out
    assert commands.run(["query", "--diff", manifests, manifests, "--output", "markdown"]) == 0
    assert capsys.readouterr().out == "No name changes.\n"


@pytest.mark.parametrize(
    "arguments",
    [["web"], ["--manifests", "/absent", "web"], ["--manifests", "/absent"], ["--manifests", "/absent", "x", "NOTYPE"]],
)
def test_what_cannot_run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["query", *arguments]) == 2
    assert capsys.readouterr().err


def test_records_as_json(manifests: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["query", "--manifests", manifests, "web", "--output", "json"]) == 0
    record = {"name": "web.default.svc.cluster.local.", "type": "A", "ttl": 5, "data": "10.96.0.1"}
    assert json.loads(capsys.readouterr().out) == [record]
    assert commands.run(["query", "--manifests", manifests, "web", "--output", "markdown"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "| `web.default.svc.cluster.local.` | A | 10.96.0.1 |"
    assert commands.run(["query", "--manifests", manifests, "absent", "--output", "json"]) == 1
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("text", ["a: [\n", "hello: world\n"])
@pytest.mark.parametrize("arguments", [["--manifests", "-", "web"], ["--diff", "MANIFESTS", "-"]])
def test_standard_input_without_a_usable_document(
    manifests: str, tmp_path: Path, arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "input"
    path.write_text(text)
    saved, opened = os.dup(0), os.open(path, os.O_RDONLY)
    os.dup2(opened, 0)
    os.close(opened)
    try:
        code = commands.run(["query", *(manifests if word == "MANIFESTS" else word for word in arguments)])
    finally:
        os.dup2(saved, 0)
        os.close(saved)
    shown = capsys.readouterr()
    assert (code, shown.out) == (2, "")
    assert shown.err.startswith("-:")
    assert "Error: '-': standard input has no document that can be used" in shown.err
