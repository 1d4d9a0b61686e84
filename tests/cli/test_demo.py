"""The demo, as far as it does not serve; tests/end_to_end has the rest."""

from __future__ import annotations

import socket
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest

from svcdns.cli import demo


def reply(*lines: str, rcode: int = 0) -> bytes:
    """A reply with these records in its answer."""
    message = dns.message.make_response(dns.message.make_query("a.", "A"))
    message.set_rcode(dns.rcode.Rcode(rcode))
    for line in lines:
        name, ttl, rclass, rtype, *rest = line.split()
        message.answer.append(dns.rrset.from_text(name, int(ttl), rclass, rtype, " ".join(rest)))
    return message.to_wire()


def test_answer_lines() -> None:
    """Records as in zone files, a response code, or no reply."""
    assert demo._answer_lines(reply("a. 5 IN A 10.0.0.1", "a. 5 IN SRV 0 100 80 b.")) == [
        "  a. 5 IN A 10.0.0.1",
        "  a. 5 IN SRV 0 100 80 b.",
    ]
    assert demo._answer_lines(reply(rcode=3)) == ["  NXDOMAIN, no records"]
    assert demo._answer_lines(None) == ["  (no answer)"]
    assert demo._answer_lines(b"x")[0].startswith("  (a reply that cannot be read: ")


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


def test_a_taken_port_of_a_page_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a free one, and it says so."""
    monkeypatch.setattr(demo, "_has_resolver", lambda: True)
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        (tmp_path / "Corefile.example").write_text(f".:1053 {{\n    health 127.0.0.1:{taken} {{\n    }}\n}}\n")
        (tmp_path / "new").mkdir()
        corefile, _ = demo._corefile(tmp_path / "new")
    assert f":{taken} " not in corefile.read_text()
    assert capsys.readouterr().out.startswith(f"Port {taken} of health is taken: the demo uses port ")


def test_wrong_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments, and another working directory."""
    assert demo.run(["now"]) == 2
    monkeypatch.chdir(tmp_path)
    assert demo.run([]) == 1
    assert capsys.readouterr().err.endswith("Corefile.example is not here; run the demo in the project's folder\n")
