"""`svcdns accelerate` in a network namespace, with the capabilities that it needs and no others."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import dns.message
import dns.query
import pytest

from bench import virtual_network
from bench.virtual_network import Namespace, VirtualNetwork
from svcdns.accelerator.layout import MAPS
from svcdns.accelerator.protocol import DEFAULT_SOCKET, REPLACED, Greeting, decode_greeting, socket_address
from tests.support.server import TIMEOUT, until
from tests.support.shared_answers import SharedAnswers

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed here"),
]

ROOT = Path(__file__).parents[2]
ADDRESSES = ("10.99.0.2", "fd99::2")
QUERY = dns.message.make_query("web.default.svc.cluster.local", "A", id=1)


@pytest.fixture(scope="module")
def network() -> Iterator[VirtualNetwork]:
    if reason := virtual_network.why_unavailable():
        pytest.skip(reason)
    with VirtualNetwork("pod", "node") as made:
        made.join(
            "pod", "eth0", "node", "veth0",
            left_addresses=["10.99.0.2/24", "fd99::2/64"], right_addresses=["10.99.0.1/24", "fd99::1/64"],
        )  # fmt: skip
        made["pod"].ip("route", "add", "default", "via", "10.99.0.1")
        yield made


class HelperProcess:
    """A running `svcdns accelerate`."""

    def __init__(self, namespace: Namespace, log: Path, *words: str, capabilities: str = "+bpf,+net_admin") -> None:
        rights = ["setpriv", "--bounding-set", f"-all,{capabilities}", "--inh-caps", "-all", "--no-new-privs"]
        command = [*rights, sys.executable, "-m", "svcdns", "accelerate", *words]
        self.namespace, self.log = namespace, log
        with log.open("wb") as out:
            self.process = subprocess.Popen(namespace.command(*command), cwd=ROOT, stdout=out, stderr=out)

    def wait_for(self, text: str) -> None:
        until(f"the log line {text!r}", lambda: text in self.log.read_text() or self.process.poll() is not None)
        assert text in self.log.read_text()

    def connect(self) -> socket.socket:
        connection = self.namespace.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(TIMEOUT)
        connection.connect(socket_address(DEFAULT_SOCKET))
        return connection

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT)


@pytest.fixture
def helper(network: VirtualNetwork, tmp_path: Path) -> Iterator[HelperProcess]:
    made = HelperProcess(network["pod"], tmp_path / "log")
    made.wait_for("accelerator ready interface=eth0 addresses=10.99.0.2,fd99::2 socket=@svcdns-accelerator")
    yield made
    made.end(signal.SIGKILL)


class Owner:
    """A connection that owns the maps. It lets the program answer QUERY with one address."""

    def __init__(self, helper: HelperProcess, answer: str) -> None:
        self.connection = helper.connect()
        message, descriptors, _, _ = socket.recv_fds(self.connection, 16384, 16)
        self.greeting: Greeting = decode_greeting(message)
        maps = dict(zip(MAPS, descriptors, strict=True))
        self.memory = SharedAnswers(maps, self.greeting.small, self.greeting.large, self.greeting.cpus)
        for descriptor in descriptors:
            os.close(descriptor)
        self.reply = dns.message.make_response(QUERY)
        self.reply.answer = [dns.rrset.from_text(QUERY.question[0].name, 5, "IN", "A", answer)]
        for address in self.greeting.addresses:
            self.memory.listen(address, 53, 0)
        self.memory.put(QUERY.to_wire()[2:], [self.reply.to_wire()[2:]], 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self.memory.close()


def ask(network: VirtualNetwork, address: str = ADDRESSES[0]) -> str:
    """Returns the address that the program answers to QUERY."""
    with network["node"].socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        reply = dns.query.udp(QUERY, address, TIMEOUT, sock=sock)
    return str(reply.answer[0][0])


def is_passed_on(network: VirtualNetwork) -> bool:
    """Sends QUERY. Returns True if a socket in the Pod gets it, and False if the program answers it."""
    with network["pod"].socket() as server, network["node"].socket() as client:
        server.bind((ADDRESSES[0], 53))
        server.settimeout(TIMEOUT)
        client.settimeout(0)
        client.sendto(QUERY.to_wire(), (ADDRESSES[0], 53))
        client.sendto(b"end", (ADDRESSES[0], 53))
        return server.recv(100) != b"end"


@pytest.mark.parametrize("address", ADDRESSES)
def test_dig_gets_the_reply_that_the_owner_wrote(network: VirtualNetwork, helper: HelperProcess, address: str) -> None:
    with Owner(helper, "10.0.0.7") as owner:
        assert (owner.greeting.interface, owner.greeting.addresses, owner.greeting.mtu) == ("eth0", ADDRESSES, 1500)
        words = ["+short", "+noedns", "+noadflag", "+time=10", "+tries=1", f"@{address}"]
        assert network["node"].run("dig", *words, "web.default.svc.cluster.local") == "10.0.0.7\n"
        assert owner.memory.hits(0) == 1
    until("the program to be detached", lambda: is_passed_on(network))
    helper.wait_for('accelerator detached reason="the worker closed its connection"')


def test_a_second_owner_replaces_the_first(network: VirtualNetwork, helper: HelperProcess) -> None:
    with Owner(helper, "10.0.0.1") as first:
        assert ask(network) == "10.0.0.1"
        with Owner(helper, "10.0.0.2") as second:
            assert ask(network) == "10.0.0.2"
            assert first.connection.recv(100) == REPLACED
            assert first.connection.recv(100) == b""
            assert ask(network, ADDRESSES[1]) == "10.0.0.2"
            assert (first.memory.hits(0), second.memory.hits(0)) == (1, 2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_answered_after_the_end_of_the_helper(
    network: VirtualNetwork, helper: HelperProcess, number: int
) -> None:
    with Owner(helper, "10.0.0.7") as owner:
        assert not is_passed_on(network)
        assert helper.end(number) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        until("the program to be detached", lambda: is_passed_on(network))
        assert owner.connection.recv(100) == b""


REFUSALS = {
    "no BPF": ("+net_admin", (), "missing capabilities: BPF"),
    "no NET_ADMIN": ("+bpf", (), "missing capabilities: NET_ADMIN"),
    "neither": ("+chown", (), "missing capabilities: BPF, NET_ADMIN"),
    "no such interface": ("+bpf,+net_admin", ("--interface", "eth7"), "there is no interface eth7 here"),
    "no veth": ("+bpf,+net_admin", ("--interface", "lo"), "the interface lo has the driver none, not veth"),
}


@pytest.mark.parametrize(("capabilities", "words", "line"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_one_line(
    network: VirtualNetwork, tmp_path: Path, capabilities: str, words: tuple[str, ...], line: str
) -> None:
    refused = HelperProcess(network["pod"], tmp_path / "log", *words, capabilities=capabilities)
    assert refused.process.wait(TIMEOUT) == 2
    text = refused.log.read_text()
    assert line in text
    assert text.count("\n") == 1


def test_another_user_gets_no_maps(network: VirtualNetwork, helper: HelperProcess) -> None:
    code = (
        "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.settimeout(10);"
        f"s.connect({socket_address(DEFAULT_SOCKET)!r}); print(socket.recv_fds(s, 16384, 16)[:2])"
    )
    with Owner(helper, "10.0.0.7"):
        for uid, text in (("1000", "uid 1000 may not write replies"), ("65532", '"interface":"eth0"')):
            words = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", sys.executable, "-c", code]
            assert text in network["pod"].run(*words)
            if uid == "1000":
                assert ask(network) == "10.0.0.7"
    helper.wait_for("accelerator refused a process")


def test_the_socket_is_taken(network: VirtualNetwork, helper: HelperProcess, tmp_path: Path) -> None:
    other = HelperProcess(network["pod"], tmp_path / "other")
    assert other.process.wait(TIMEOUT) == 2
    assert "the socket @svcdns-accelerator is taken" in other.log.read_text()


def test_a_helper_that_stays_tells_the_worker_why(network: VirtualNetwork, tmp_path: Path) -> None:
    """In a user namespace, the capabilities are not enough."""
    words = ["unshare", "--user", "--map-root-user", sys.executable, "-m", "svcdns", "accelerate", "--stay"]
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(network["pod"].command(*words), cwd=ROOT, stdout=out, stderr=out)
    try:
        until("the log line", lambda: "accelerator not available" in log.read_text() or process.poll() is not None)
        with network["pod"].socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(socket_address(DEFAULT_SOCKET))
            assert b"user namespace" in connection.recv(1000)
            assert connection.recv(1000) == b""
        assert log.read_text().count("user namespace") == 1
    finally:
        process.kill()
        process.wait(TIMEOUT)
