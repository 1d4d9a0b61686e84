"""The command `demo`. tests/end_to_end tests the demo's server."""

from __future__ import annotations

import socket
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest

from svcdns.cli import demo


def reply(*lines: str, rcode: int = 0) -> bytes:
    message = dns.message.make_response(dns.message.make_query("a.", "A"))
    message.set_rcode(dns.rcode.Rcode(rcode))
    for line in lines:
        name, ttl, rclass, rtype, *rest = line.split()
        message.answer.append(dns.rrset.from_text(name, int(ttl), rclass, rtype, " ".join(rest)))
    return message.to_wire()


def test_answer_lines() -> None:
    assert demo._answer_lines(reply("a. 5 IN A 10.0.0.1", "a. 5 IN SRV 0 100 80 b.")) == [
        "  a. 5 IN A 10.0.0.1",
        "  a. 5 IN SRV 0 100 80 b.",
    ]
    assert demo._answer_lines(reply(rcode=3)) == ["  NXDOMAIN, no records"]
    assert demo._answer_lines(None) == ["  (no answer)"]
    assert demo._answer_lines(b"x")[0].startswith("  (a reply that cannot be read: ")


def test_without_a_resolver_the_demo_does_not_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "resolv.conf"
    empty.write_text("search a.b\n")
    monkeypatch.setattr(demo, "RESOLV_CONF", str(empty))
    monkeypatch.setattr(demo, "_is_free", lambda *_: True)
    monkeypatch.chdir(Path(__file__).parents[2])
    corefile, resolver = demo._corefile(Path(), tmp_path)
    text = corefile.read_text()
    assert not resolver
    assert "forward" not in text
    assert "    loop\n" not in text
    assert "kubernetes cluster.local" in text
    assert "There is no resolver in" in capsys.readouterr().out
    assert demo._address(text) == ("127.0.0.1", 1053)


def test_taken_ports_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A DNS port must be free over UDP, too."""
    monkeypatch.setattr(demo, "_has_resolver", lambda: True)
    (tmp_path / "new").mkdir()
    with (
        socket.create_server(("127.0.0.1", 0)) as page,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        other.bind(("127.0.0.1", 0))
        taken, dns_port = page.getsockname()[1], other.getsockname()[1]
        (tmp_path / "Corefile.example").write_text(f".:{dns_port} {{\n    health 127.0.0.1:{taken} {{\n    }}\n}}\n")
        corefile, _ = demo._corefile(tmp_path, tmp_path / "new")
    text = corefile.read_text()
    assert f":{taken} " not in text
    assert demo._address(text)[1] != dns_port
    shown = capsys.readouterr().out.splitlines()
    assert [line.rpartition(" ")[0] for line in shown] == [
        f"Port {taken} of health is taken: the demo uses port",
        f"Port {dns_port} of DNS is taken: the demo uses port",
    ]


def test_without_the_example_files_the_demo_serves_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copies in the package are equal to the files in the repository."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    folder = demo._folder(tmp_path / "temporary")
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "Corefile.example",
        "cluster.yaml",
        "example.test.zone",
    ]
    assert all(not path.is_symlink() for path in folder.rglob("*"))
    project = Path(__file__).parents[2]
    for name in ("Corefile.example", "zones"):
        assert (project / name).resolve() == (demo.FILES / name).resolve()
    monkeypatch.chdir(project)
    assert demo._folder(tmp_path / "temporary") == Path()


def test_errors_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.run(["now"]) == 2
    (tmp_path / "Corefile.example").mkdir()
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert demo.run([]) == 1
    assert capsys.readouterr().err == "svcdns demo: Corefile.example: Is a directory\n"
