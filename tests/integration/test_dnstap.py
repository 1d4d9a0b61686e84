"""*dnstap* with other programs: Debian's `fstrm_capture` as the reader, and CoreDNS (the environment variable COREDNS)
as another writer of the same messages.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import dns.message
import dns.query
import pytest

from svcdns.wire.dnstap import DnstapMessage, MessageType, SocketProtocol, from_wire
from svcdns.wire.frame_streams import Control, ControlType, Frames
from tests.support.certificates import authority, pair
from tests.support.server import TIMEOUT, Server, free_port, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("fstrm_capture") is None, reason="fstrm_capture is not installed"),
]
ZONE = "hosts {\n 10.0.0.1 web.example\n fallthrough\n }\n cache 30\n forward . 127.0.0.1:UPSTREAM"
UPSTREAM = ".:{port} {\n bind 127.0.0.1\n hosts {\n  10.0.0.2 out.example\n }\n}\n"
PLACE = 'dnstap PLACE full {\n identity me\n version 1\n extra "{name} {type} {proto}"\n }\n'
COREFILE = ".:{port} {\n bind 127.0.0.1\n prometheus 127.0.0.1:{metrics}\n DNSTAP " + ZONE + "\n}\n"
QUESTIONS = [("web.example", "A"), ("web.example", "A"), ("web.example", "AAAA"), ("out.example", "A")]
FLUSHED = 2.5
"""The seconds after which CoreDNS has written its messages: its ticker has an interval of one second."""
CLIENT = (MessageType.CLIENT_QUERY, MessageType.CLIENT_RESPONSE)


def needs(program: str) -> str:
    path = shutil.which(os.environ.get("COREDNS", "") if program == "coredns" else program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


class Capture:
    """`fstrm_capture` on a unix socket or a TCP port, which writes to a file."""

    def __init__(self, folder: Path, scheme: str = "unix") -> None:
        self.file, port = folder / "capture", free_port()
        self.place = f"unix://{folder / 'tap'}" if scheme == "unix" else f"tcp://127.0.0.1:{port}"
        where = ["-u", str(folder / "tap")] if scheme == "unix" else ["-a", "127.0.0.1", "-p", str(port)]
        with (folder / "capture.log").open("wb") as log:
            command = ["fstrm_capture", "-t", "protobuf:dnstap.Dnstap", *where, "-w", str(self.file)]
            self.process = subprocess.Popen(command, stderr=log)
        until("the reader", lambda: "opened output file" in (folder / "capture.log").read_text())

    def messages(self) -> list[DnstapMessage]:
        """Ends the reader, and returns the messages that it has received."""
        self.process.terminate()
        self.process.wait(TIMEOUT)
        frames = list(Frames().feed(self.file.read_bytes()))
        kinds = [frame.kind for frame in frames if isinstance(frame, Control)]
        assert kinds == [ControlType.START, ControlType.STOP]
        payloads = [frame for frame in frames if not isinstance(frame, Control)]
        found = [from_wire(payload) for payload in payloads]
        return [one for one in found if one is not None]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


class CoreDns(Server):
    """CoreDNS with the same Corefile."""

    def command(self) -> list[str]:
        return [needs("coredns")]


@contextmanager
def running(kind: type[Server], folder: Path, corefile: str) -> Iterator[Server]:
    folder.mkdir(exist_ok=True)
    with kind(folder, corefile) as server:
        until("the start", lambda: "CoreDNS-" in server.log or "svcdns-" in server.log)
        yield server


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[str]:
    with running(Server, tmp_path / "upstream", UPSTREAM) as server:
        server.until_serving()
        yield str(server.ports["port"])


def corefile(upstream: str, *taps: str) -> str:
    return COREFILE.replace("DNSTAP", "".join(taps)).replace("UPSTREAM", upstream)


def asked(server: Server, *, tcp: bool = False) -> None:
    """Sends the queries, each when the reply to the previous one has arrived."""
    for name, rtype in QUESTIONS:
        assert until("a reply", lambda name=name, rtype=rtype: server.ask(name, rtype, tcp=tcp, timeout=5))  # type: ignore[misc]


def fields(message: DnstapMessage) -> dict[str, Any]:
    """Returns what both servers have in common: without times, ports of clients, message ids and TTLs."""
    assert bool(message.query) != bool(message.response)
    packet = dns.message.from_wire(message.query or message.response)
    answers = sorted(f"{rrset.name} {rrset.rdtype} {rrset[0]}" for rrset in packet.answer)
    return {
        "kind": message.kind,
        "family": message.family,
        "protocol": message.protocol,
        "query": message.query_address,
        "response": (message.response_address, message.response_port),
        "ports": bool(message.query_port),
        "times": (bool(message.query_time), bool(message.response_time)),
        "texts": (message.identity, message.version, message.extra),
        "packet": (packet.question, packet.rcode(), answers),
    }


def ordered(messages: list[DnstapMessage]) -> list[dict[str, Any]]:
    """Returns the fields of messages, sorted by question and type.

    CoreDNS makes the message of a reply after the reply is sent, so the next query may come before.
    """
    return sorted(map(fields, messages), key=lambda one: (str(one["packet"][0]), one["kind"]))


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
@pytest.mark.parametrize("tcp", [False, True], ids=["over UDP", "over TCP"])
def test_the_messages_are_those_of_coredns(scheme: str, tcp: bool, upstream: str, tmp_path: Path) -> None:
    """The zone is in svcdns's messages only."""
    found = []
    for kind in (Server, CoreDns):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        with Capture(folder, scheme) as capture:
            with running(kind, folder, corefile(upstream, PLACE.replace("PLACE", capture.place))) as server:
                asked(server, tcp=tcp)
                if kind is CoreDns:  # its ticker flushes once a second
                    threading.Event().wait(FLUSHED)
                server.stop()
            found.append(capture.messages())
    ours, theirs = found
    assert ordered(ours) == ordered(theirs)
    assert [one.kind for one in ours][:6] == [*CLIENT, *CLIENT, *CLIENT]
    assert ({one.zone for one in ours}, {one.zone for one in theirs}) == ({b"\0"}, {b""})
    assert MessageType.FORWARDER_RESPONSE in [one.kind for one in ours]
    for one in ours:
        assert not one.response_time or one.query_time <= one.response_time


ENCRYPTED = """
KEY://.:{other} {
    bind 127.0.0.1
    tls {dir}/server.crt {dir}/server.key
    dnstap PLACE
    whoami
}
"""
TRANSPORTS = {"tls": SocketProtocol.DOT, "https": SocketProtocol.DOH}


class Encrypted(Server):
    """A server with the port {other} for an encrypted transport."""

    def write(self, corefile: str) -> None:
        self.ports.setdefault("other", free_port())
        pair().write(self.folder)
        authority().write(self.folder)
        super().write(corefile)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_encrypted_transports(transport: str, tmp_path: Path) -> None:
    """The protocol is that of the transport, with the address of the client."""
    with Capture(tmp_path) as capture:
        text = ENCRYPTED.replace("KEY", transport).replace("PLACE", capture.place)
        with running(Encrypted, tmp_path, text) as server:
            until("a reply", lambda: answers(transport, server.ports["other"], tmp_path))
            assert server.stop() == 0
        found = capture.messages()
    assert {(one.protocol, one.query_address, one.zone) for one in found} == {
        (TRANSPORTS[transport], b"\x7f\0\0\1", b"\0")
    }
    assert [one.kind for one in found][:2] == list(CLIENT)


def answers(transport: str, port: int, folder: Path) -> bool:
    """Returns True if the server replies over an encrypted transport."""
    words = (f"+{transport}", f"+tls-ca={folder}/ca.crt", "+tls-hostname=dns.test", "a.example")
    command = (needs("kdig"), "@127.0.0.1", f"-p{port}", *words)
    return "status: NOERROR" in subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout


def test_a_reload_keeps_the_connection_and_a_removed_line_ends_it(upstream: str, tmp_path: Path) -> None:
    with Capture(tmp_path) as capture:
        tap = PLACE.replace("PLACE", capture.place)
        with running(Server, tmp_path, corefile(upstream, tap)) as server:
            asked(server)
            server.write(corefile(upstream, tap).replace("10.0.0.1", "10.0.0.9"))
            server.process.send_signal(signal.SIGUSR1)
            until("the reload", lambda: server.records("web.example") == ["10.0.0.9"])
            server.write(corefile(upstream))
            server.process.send_signal(signal.SIGUSR1)
            until("the end of the stream", lambda: not is_connected(tmp_path / "tap"))
            asked(server)
            found = capture.messages()
    answers = [dns.message.from_wire(one.response).answer for one in found if one.kind == CLIENT[1]]
    assert "10.0.0.9" in str(answers[-1])
    assert len(answers) >= len(QUESTIONS) + 1


def test_an_upgrade_in_place(upstream: str, tmp_path: Path) -> None:
    """The previous worker writes its messages, and those of its successor follow."""
    with Capture(tmp_path) as capture:
        with running(Server, tmp_path, corefile(upstream, PLACE.replace("PLACE", capture.place))) as server:
            asked(server)
            before = server.children()
            assert is_connected(tmp_path / "tap")
            server.process.send_signal(signal.SIGUSR2)
            until("the upgrade", lambda: not set(server.children().values()) & set(before.values()))
            asked(server)
            assert server.stop() == 0
        found = [one.kind for one in capture.messages()]
    assert found.count(CLIENT[0]) == found.count(CLIENT[1]) == 2 * len(QUESTIONS)


def test_a_reader_that_hangs_costs_only_messages(upstream: str, tmp_path: Path) -> None:
    """Each query is answered. What does not fit into the queue is counted."""
    with (
        Capture(tmp_path) as capture,
        running(Server, tmp_path, corefile(upstream, PLACE.replace("PLACE", capture.place))) as server,
    ):
        asked(server)
        capture.process.send_signal(signal.SIGSTOP)
        packet = dns.message.make_query("web.example", "A")

        def some() -> bool:
            for _ in range(500):
                assert dns.query.udp(packet, "127.0.0.1", TIMEOUT, server.ports["port"]).answer
            return server.metric("svcdns_dnstap_dropped_messages_total") > 0

        until("drops", some)
        capture.process.send_signal(signal.SIGCONT)
        assert server.stop() == 0


@pytest.mark.parametrize("kind", [Server, CoreDns])
def test_shadow_takes_queries_from_the_messages(kind: type[Server], upstream: str, tmp_path: Path) -> None:
    """The server in use connects to the command. The queries of the command itself are left out."""
    place = f"unix://{tmp_path / 'shadow'}"
    command = [sys.executable, "-m", "svcdns", "shadow", "--output", "json", place]
    with running(kind, tmp_path / "server", corefile(upstream, PLACE.replace("PLACE", place))) as server:
        until("the start", lambda: server.ask("web.example", timeout=1))
        address = f"127.0.0.1:{server.ports['port']}"
        shadow = subprocess.Popen([*command, "--reference", address, "--candidate", address], stdout=subprocess.PIPE)
        until("the socket", (tmp_path / "shadow").exists)
        until("the connection", lambda: is_connected(tmp_path / "shadow"))
        asked(server)
        threading.Event().wait(FLUSHED)
        shadow.send_signal(signal.SIGINT)
        out, _ = shadow.communicate(timeout=TIMEOUT)
    report = json.loads(out)
    assert report["compared"] >= len(QUESTIONS)
    assert report["different"] == 0


def is_connected(path: Path) -> bool:
    """Returns True if a process is connected to a unix socket."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return any(line.endswith(str(path)) and line.split()[5] == "03" for line in lines)
