"""The node-local server of deploy/kustomize in a network namespace: its interface, and an update without a gap."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Self

import dns.exception
import dns.message
import dns.query
import pytest
import yaml

from bench.network_namespace import own_network, why_unavailable
from svcdns.cli.server_socket import ask
from svcdns.control.status import Status
from tests.support.server import TIMEOUT, Server, exchange, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and `ip`"),
]
OVERLAY: Final = Path(__file__).parents[2] / "deploy" / "kustomize" / "overlays" / "node-local"
ADDRESS: Final = "169.254.20.10"
CENTRAL: Final = "10.96.0.10"
ANSWER: Final = "192.0.2.7"
CENTRAL_COREFILE: Final = f"""
.:53 {{
    bind {CENTRAL}
    template IN A {{
        answer "{{{{ .Name }}}} 30 IN A {ANSWER}"
    }}
}}
"""


@pytest.fixture
def namespace() -> Iterator[None]:
    if reason := why_unavailable():
        pytest.skip(reason)
    with own_network():
        yield


def interface(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "svcdns", "interface", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)


def addresses() -> dict[str, list[str]]:
    """Returns the addresses of each interface that is turned on."""
    done = subprocess.run(["ip", "-json", "address"], capture_output=True, text=True, check=True)
    return {
        one["ifname"]: [f"{info['local']}/{info['prefixlen']}" for info in one["addr_info"] if info["scope"] != "link"]
        for one in json.loads(done.stdout)
        if "UP" in one["flags"]
    }


@pytest.mark.usefixtures("namespace")
def test_the_interface_is_added_once_and_removed() -> None:
    """Each Pod runs the first command, also while another Pod serves."""
    for _ in range(2):
        done = interface("add", ADDRESS)
        assert done.returncode == 0, done.stderr
    assert addresses()["dummy-svcdns"] == [f"{ADDRESS}/32"]
    assert interface("add", "fd00::a").returncode == 0
    assert addresses()["dummy-svcdns"] == [f"{ADDRESS}/32", "fd00::a/128"]
    for family, address in ((socket.AF_INET, ADDRESS), (socket.AF_INET6, "fd00::a")):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 53))
    for text in ("removed", "there is no such interface"):
        done = interface("remove")
        assert (done.returncode, done.stdout) == (0, f"dummy-svcdns: {text}\n")
    assert addresses() == {"lo": ["127.0.0.1/8", "::1/128"]}


@pytest.mark.usefixtures("namespace")
def test_interfaces_of_other_programs_stay() -> None:
    subprocess.run(["ip", "link", "add", "cni0", "type", "bridge"], check=True)
    for command in (("add", ADDRESS), ("remove",)):
        for name in ("lo", "cni0"):
            done = interface(*command, "--name", name)
            assert done.returncode == 2
            assert done.stderr == f"Error: the interface {name} exists, and belongs to another program\n"
    done = subprocess.run(["ip", "-json", "link"], capture_output=True, text=True, check=True)
    assert [one["ifname"] for one in json.loads(done.stdout)] == ["lo", "cni0"]


@pytest.mark.usefixtures("namespace")
def test_the_interface_needs_a_capability() -> None:
    command = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-m", "svcdns"]
    done = subprocess.run(
        [*command, "interface", "add", ADDRESS], capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert done.returncode == 2
    assert done.stderr.endswith("without the capability NET_ADMIN\n")
    assert "dummy-svcdns" not in addresses()


def manifest() -> str:
    """Returns the Corefile of the overlay."""
    text = (OVERLAY / "corefile.yaml").read_text()
    return str(yaml.safe_load(text)["data"]["Corefile"])


class Pod(Server):
    """A server with the Corefile of the overlay. The node's resolv.conf names the central server."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        corefile = manifest().replace("/etc/resolv.conf", CENTRAL).replace("lameduck 5s", "lameduck 1s")
        super().__init__(folder, corefile.replace("admin", f"admin {folder}/admin.sock"))

    def until_started(self) -> None:
        """Waits as the kubelet does, by the startup probe."""
        until("the startup probe", lambda: self.process.poll() is not None or self.probe() == (0, "OK\n"))
        assert self.process.poll() is None, self.log

    def probe(self) -> tuple[int, str]:
        """Returns the exit code and the output of the command in the startup probe."""
        command = [sys.executable, "-m", "svcdns", "ready", "--socket", f"{self.folder}/admin.sock"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
        return done.returncode, done.stdout


class Clients:
    """Threads that query the node-local server until they are stopped. Each query has a new socket."""

    def __init__(self) -> None:
        self.replies: Counter[tuple[str, str]] = Counter()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(number, tcp)) for number, tcp in enumerate((False, False, True))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(TIMEOUT)

    @property
    def count(self) -> int:
        return sum(self.replies.values())

    def _run(self, number: int, tcp: bool) -> None:
        sent = 0
        while not self._stopped.wait(0.002):
            sent += 1
            label = f"n{number}-{sent}" if sent % 2 else "cached"  # half of the names are new: forwarded
            zone = "svc.cluster.local." if sent % 4 < 2 else "example.org."
            result = self._query(dns.message.make_query(f"{label}.{zone}", "A"), tcp=tcp)
            with self._lock:
                self.replies["TCP" if tcp else "UDP", result] += 1

    def _query(self, query: dns.message.Message, *, tcp: bool) -> str:
        """Sends a query, and returns the address in the answer, or the error.

        A client over TCP connects again if a server closes the connection (RFC 7766 §6.2.4).
        """
        try:
            if not tcp:
                return address_in(dns.query.udp(query, ADDRESS, TIMEOUT))
            try:
                return address_in(dns.query.tcp(query, ADDRESS, TIMEOUT))
            except (ConnectionError, EOFError):
                return address_in(dns.query.tcp(query, ADDRESS, TIMEOUT))
        except (OSError, EOFError, dns.exception.DNSException) as error:
            return f"{type(error).__name__}: {error}"


def address_in(reply: dns.message.Message) -> str:
    return reply.answer[0][0].to_text() if reply.answer else f"rcode {reply.rcode()}"


def health() -> int:
    """Returns the status of the page that the liveness probe requests."""
    with urllib.request.urlopen(f"http://{ADDRESS}:8090/health", timeout=TIMEOUT) as response:
        return int(response.status)


def udp(address: str, timeout: float = TIMEOUT) -> bytes:
    """Sends a query from a connected socket, which gets ICMP errors (RFC 1122 §4.1.3.3). Returns the reply."""
    return exchange(dns.message.make_query("example.org.", "A").to_wire(), address, 53, timeout=timeout)


def answers(address: str) -> bool:
    with suppress(OSError):
        return bool(udp(address, 0.3))
    return False


def refuses() -> bool:
    """Returns True if the kernel reports that no server has the port."""
    try:
        udp(ADDRESS, 0.3)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def queries(pod: Pod) -> int:
    """Returns the number of queries that the server of this Pod has answered."""
    return ask(f"{pod.folder}/admin.sock", "status", {}, Status).queries.total


@pytest.mark.usefixtures("namespace")
def test_an_update_loses_no_query(tmp_path: Path) -> None:
    """Two Pods replace each other, as a DaemonSet with `maxSurge: 1` does, while clients send queries."""
    assert interface("add", ADDRESS).returncode == 0
    assert interface("add", CENTRAL, "--name", "service").returncode == 0
    (tmp_path / "central").mkdir()
    with ExitStack() as running:
        central = running.enter_context(Server(tmp_path / "central", CENTRAL_COREFILE))
        old = running.enter_context(Pod(tmp_path / "old"))
        old.until_started()
        assert health() == 200
        until("the central server", lambda: central.process.poll() is not None or answers(CENTRAL))
        clients = running.enter_context(Clients())
        until("the first replies", lambda: clients.count > 100)
        new = running.enter_context(Pod(tmp_path / "new"))
        new.until_started()
        until("replies of both servers", lambda: queries(old) > 0 and queries(new) > 0)
        assert old.stop() == 0
        assert old.probe()[0] == 2
        seen = clients.count
        until("further replies", lambda: clients.count > seen + 100)
        assert new.probe() == (0, "OK\n")
        clients.__exit__()
        assert set(clients.replies) == {("UDP", ANSWER), ("TCP", ANSWER)}, clients.replies
        assert "Traceback" not in old.log + new.log
    until("a refusal", refuses)  # clients then use their next name server without waiting
