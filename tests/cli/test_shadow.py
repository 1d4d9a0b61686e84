"""`svcdns shadow` as a user calls it."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rrset
import pytest

from svcdns.cli import commands
from svcdns.plugins.dnstap.encoding import Envelope, number, octets, socket_fields
from svcdns.wire.frame_streams import WriterHandshake


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
    assert (found["compared"], found["different"], found["serious"]) == (1, 1, 1)
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


def test_a_reference_that_does_not_reply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "names"
    path.write_text("a.test A\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        options = ["--timeout", "0.05", "--tries", "1", "--candidate", place]
        assert commands.run(["shadow", "--reference", place, *options, str(path)]) == 2
    assert f"{place} replied to none of 1 queries" in capsys.readouterr().err


def test_a_missing_file(servers: list[socketserver.UDPServer], tmp_path: Path) -> None:
    assert commands.run(arguments(servers, tmp_path / "absent")) == 2


def test_a_dnstap_socket(
    servers: list[socketserver.UDPServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command connects to a server that listens for readers, and ends with the connection."""
    message = (
        number(1, 5)
        + socket_fields(1, ("192.0.2.1", 7), None)
        + octets(10, dns.message.make_query("a.test", "A").to_wire())
    )
    place = socket.socket(socket.AF_UNIX)
    place.bind(str(tmp_path / "s"))
    place.listen()

    def write() -> None:
        connection, handshake = place.accept()[0], WriterHandshake()
        with connection:
            connection.sendall(handshake.first)
            connection.sendall(handshake.receive(connection.recv(4096)))
            connection.sendall(Envelope(b"i", b"v", b"").frame(message) + handshake.last)
            connection.recv(4096)

    thread = threading.Thread(target=write)
    thread.start()
    words = [*arguments(servers, tmp_path)[:-1], f"unix://{tmp_path / 's'}", "--connect"]
    assert commands.run(words) == 0
    thread.join()
    place.close()
    assert capsys.readouterr().out.startswith("1 queries compared: no difference that a client would notice\n")


def test_a_corefile_is_no_list_of_queries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "Corefile"
    path.write_text(".:53 {\n whoami\n}\n")
    assert commands.run(["shadow", "--reference", "127.0.0.1", "--candidate", "127.0.0.1", str(path)]) == 2
    assert "line 1 is '.:53 {'; this is no list of queries, but perhaps a Corefile" in capsys.readouterr().err
