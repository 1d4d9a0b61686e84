"""`svcdns probe` as a user calls it."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from svcdns.cli import commands
from svcdns.cli.probe import ProbeReport

ROOT = Path(__file__).parents[2]


class Echo(socketserver.BaseRequestHandler):
    """Returns each query as its reply."""

    def handle(self) -> None:
        data, sock = self.request
        sock.sendto(data[:2] + b"\x80\0" + data[4:], self.client_address)


@contextmanager
def answering() -> Iterator[int]:
    """A server over UDP. Yields its port."""
    with socketserver.UDPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_the_latency_of_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    with answering() as port:
        words = ["--server", f"127.0.0.1:{port}", "--name", "a.test", "--seconds", "0.2", "--rate", "50"]
        assert commands.run(["probe", *words, "--output", "json"]) == 0
        [result] = json.loads(capsys.readouterr().out)["results"]
        assert (result["server"], result["kind"], result["failures"]) == (f"127.0.0.1:{port}", "query", 0)
        assert result["count"] > 1
        assert commands.run(["probe", *words, "--max-query-p99", "0"]) == 1
        assert ": p99 of query is " in capsys.readouterr().out


def test_a_server_that_does_not_reply(capsys: pytest.CaptureFixture[str]) -> None:
    """The probe ends before the time limit of its first query."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        assert commands.run(["probe", "--server", where, "--seconds", "0.1"]) == 1
    assert capsys.readouterr().out == f"{where}: 0 queries, 1 failed (timeout 1)\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["--server", "127.0.0.1:x"], "HOST or HOST:PORT was expected", id="no port"),
        pytest.param(["--server", "127.0.0.1:1", "--listen", "192.0.2.1:9"], "metrics cannot be served", id="listen"),
        pytest.param(["--server", "127.0.0.1:1", "--name", "a..b"], "is no domain name", id="no name"),
        pytest.param(
            ["--server", "127.0.0.1:1", "--namespace", "a", "--kubeconfig", "/nowhere"], "/nowhere", id="kubeconfig"
        ),
    ],
)
def test_what_cannot_run(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["probe", *words, "--seconds", "5"]) == 2
    assert message in capsys.readouterr().err


def test_the_schema_in_the_documentation() -> None:
    assert json.loads((ROOT / "docs/schemas/probe.json").read_text()) == msgspec.json.schema(ProbeReport)
