"""The demo, as far as it does not serve; tests/end_to_end has the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from svcdns.cli import demo
from svcdns.wire import names
from svcdns.wire.codes import Class, Type
from svcdns.wire.message import Message
from svcdns.wire.record import Record
from tests.support import world


@pytest.mark.parametrize(
    "line",
    [
        "a. 5 IN A 10.0.0.1",
        "a. 5 IN AAAA fd00::1",
        "a. 5 IN CNAME b.",
        "a. 5 IN PTR b.c.",
        "a. 5 IN SRV 0 100 80 b.",
        "a. 5 IN NS ns.",
    ],
)
def test_shows_records_as_zone_files_do(line: str) -> None:
    """For the types that it queries."""
    (record,) = world.records(line)
    assert demo.record_text(record) == line


def test_shows_other_types_as_rfc_3597_does() -> None:
    """Length and hexadecimal data."""
    assert demo.record_text(Record(names.from_text("a."), 731, 5, b"\1\2", Class.IN)) == "a. 5 IN TYPE731 \\# 2 0102"


def test_answer_lines() -> None:
    """Records, a response code, or no reply."""
    answered = Message(1, 0x8180, names.from_text("a."), Type.A, Class.IN, answer=world.records("a. 5 IN A 10.0.0.1"))
    assert demo._answer_lines(answered) == ["  a. 5 IN A 10.0.0.1"]
    assert demo._answer_lines(Message(1, 0x8183, names.from_text("a."), Type.A, Class.IN)) == ["  NXDOMAIN, no records"]
    assert demo._answer_lines(None) == ["  (no answer)"]


def test_without_a_resolver_it_serves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints that."""
    empty = tmp_path / "resolv.conf"
    empty.write_text("search a.b\n")
    monkeypatch.setattr(demo, "RESOLV_CONF", str(empty))
    monkeypatch.chdir(Path(__file__).parents[2])
    corefile, resolver = demo._corefile(tmp_path)
    text = corefile.read_text()
    assert not resolver
    assert "forward" not in text
    assert "    loop\n" not in text
    assert "kubernetes cluster.local" in text
    assert "There is no resolver in" in capsys.readouterr().out
    assert demo._address(text) == ("127.0.0.1", 1053)


def test_wrong_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments, and another working directory."""
    assert demo.run(["now"]) == 2
    monkeypatch.chdir(tmp_path)
    assert demo.run([]) == 1
    assert capsys.readouterr().err.endswith("Corefile.example is not here; run the demo in the project's folder\n")
