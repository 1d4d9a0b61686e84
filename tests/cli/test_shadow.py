"""`svcdns shadow` as a user calls it."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rrset
import pytest

from svcdns.cli import commands


class Answers(socketserver.BaseRequestHandler):
    """Answers every query; the server's address differs from that of the other server if `differs` is set."""

    def handle(self) -> None:
        """Answers one query."""
        data, sock = self.request
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query)
        address = "10.0.0.2" if getattr(self.server, "differs", False) else "10.0.0.1"
        reply.answer.append(dns.rrset.from_text(query.question[0].name, 30, "IN", "A", address))
        sock.sendto(reply.to_wire(), self.client_address)


@pytest.fixture
def servers() -> Iterator[list[socketserver.UDPServer]]:
    started = [socketserver.UDPServer(("127.0.0.1", 0), Answers) for _ in range(2)]
    threads = [threading.Thread(target=one.serve_forever, args=(0.01,)) for one in started]
    for thread in threads:
        thread.start()
    yield started
    for one in started:
        one.shutdown()
        one.server_close()
    for thread in threads:
        thread.join()


def arguments(servers: list[socketserver.UDPServer], path: Path) -> list[str]:
    places = [f"127.0.0.1:{one.server_address[1]}" for one in servers]
    return ["shadow", "--reference", places[0], "--candidate", places[1], str(path)]


def test_equal_servers(
    servers: list[socketserver.UDPServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "names"
    path.write_text("a.test A\nb.test A\nx y z\n")
    assert commands.run(arguments(servers, path)) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 queries compared: no difference that a client would notice\n")
    assert "left out: 1: a line that is not 'NAME TYPE'" in out


def test_a_difference(
    servers: list[socketserver.UDPServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servers[1].differs = True  # type: ignore[attr-defined]
    path = tmp_path / "names"
    path.write_text("a.test A\n")
    assert commands.run([*arguments(servers, path), "--output", "json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["compared"], found["different"]) == (1, 1)
    assert found["differences"][0]["kind"] == "answer"
    assert commands.run([*arguments(servers, path), "--ignore", "answer"]) == 0


@pytest.mark.parametrize("text", ["", "x y z\n"])
def test_a_file_without_queries(
    text: str, servers: list[socketserver.UDPServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "names"
    path.write_text(text)
    assert commands.run(arguments(servers, path)) == 2
    assert "has no query" in capsys.readouterr().err


def test_a_missing_file(servers: list[socketserver.UDPServer], tmp_path: Path) -> None:
    assert commands.run(arguments(servers, tmp_path / "absent")) == 2
