"""*etcd* with a real etcd: outages, compaction, authentication and TLS. Skipped without etcd."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest
import trustme

from tests.support.server import Server, free_port, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed"),
    pytest.mark.skipif(shutil.which("etcdctl") is None, reason="etcdctl is not installed"),
]

BLOCK = "skydns.local:{port} {{\n bind 127.0.0.1\n etcd {{\n endpoint {endpoint}\n {more}\n }}\n ready 127.0.0.1:{ready}\n}}\n"


class Etcd:
    """A real etcd, which can be stopped and started."""

    def __init__(self, folder: Path, *, secure: bool = False) -> None:
        self.folder, self.port, self.peer = folder, free_port(), free_port()
        scheme, self.options, self.tls = "http", [], []
        if secure:
            authority, scheme = trustme.CA(), "https"
            authority.cert_pem.write_to_path(folder / "ca.pem")
            for name in ("server", "client"):
                made = authority.issue_cert("127.0.0.1", name)
                made.private_key_pem.write_to_path(folder / f"{name}-key.pem")
                made.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
            self.options = [
                *("--cert-file", str(folder / "server.pem"), "--key-file", str(folder / "server-key.pem")),
                *("--client-cert-auth", "--trusted-ca-file", str(folder / "ca.pem")),
            ]
            files = {"cert": "client.pem", "key": "client-key.pem", "cacert": "ca.pem"}
            self.tls = [f"--{option}={folder / name}" for option, name in files.items()]
        self.url, self.data = f"{scheme}://127.0.0.1:{self.port}", folder / "data"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        peer = f"http://127.0.0.1:{self.peer}"
        command = [
            "etcd",
            "--data-dir",
            str(self.data),
            "--listen-client-urls",
            self.url,
            "--advertise-client-urls",
            self.url,
        ]
        command += [
            "--listen-peer-urls",
            peer,
            "--initial-advertise-peer-urls",
            peer,
            "--initial-cluster",
            f"default={peer}",
        ]
        with (self.folder / "etcd.log").open("ab") as log:
            self.process = subprocess.Popen([*command, *self.options], stdout=log, stderr=log)
        until("etcd", lambda: self.control("get", "x", check=False) == 0)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)

    def control(self, *arguments: str, check: bool = True, user: str = "") -> int:
        """Runs `etcdctl`, and returns its exit code."""
        command = ["etcdctl", "--endpoints", self.url, *self.tls, *(["--user", user] if user else []), *arguments]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        return subprocess.run(command, check=check, capture_output=True, env=environment, timeout=30).returncode

    def put(self, name: str, address: str, **more: str) -> None:
        self.control("put", f"/skydns/local/skydns/{name}", f'{{"host":"{address}"}}', **more)  # type: ignore[arg-type]


@pytest.fixture
def etcd(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Etcd]:
    made = Etcd(tmp_path, secure=getattr(request, "param", False))
    made.start()
    yield made
    made.stop()


def served(folder: Path, etcd: Etcd, more: str = "") -> Server:
    """Starts a server with the plugin."""
    text = BLOCK.replace("{endpoint}", etcd.url).replace("{more}", more).replace("{{", "{").replace("}}", "}")
    return Server(folder, text)


def addresses(server: Server, name: str) -> list[str] | str:
    """Returns the addresses of a name, or the response code if there are none."""
    query = dns.message.make_query(f"{name}.skydns.local.", "A")
    try:
        reply = dns.query.udp(query, "127.0.0.1", 1, server.ports["port"])
    except (dns.exception.Timeout, OSError):
        return "no reply"
    found = sorted(str(item) for rrset in reply.answer for item in rrset)
    return found or dns.rcode.to_text(reply.rcode())


def becomes(server: Server, name: str, expected: list[str] | str) -> None:
    until(f"{name} to be {expected}", lambda: addresses(server, name) == expected)


def test_changes_and_an_outage(etcd: Etcd, tmp_path: Path) -> None:
    """Changes arrive, the last known records stay while etcd is away, and then what was missed arrives."""
    etcd.put("web/a", "10.0.0.1")
    with served(tmp_path, etcd) as server:
        becomes(server, "web", ["10.0.0.1"])
        etcd.put("web/b", "10.0.0.2")
        becomes(server, "web", ["10.0.0.1", "10.0.0.2"])
        etcd.control("del", "/skydns/local/skydns/web/a")
        becomes(server, "web", ["10.0.0.2"])
        etcd.stop()
        until("the log line", lambda: "serving=last-known-records" in server.log)
        assert addresses(server, "web") == ["10.0.0.2"]
        etcd.start()
        etcd.put("new", "10.0.0.3")
        becomes(server, "new", ["10.0.0.3"])


def test_another_cluster_and_compaction(etcd: Etcd, tmp_path: Path) -> None:
    """If the history is gone, the keys are listed again."""
    for number in range(5):
        etcd.put("old", f"10.0.0.{number}")
    with served(tmp_path, etcd) as server:
        becomes(server, "old", ["10.0.0.4"])
        etcd.stop()
        etcd.data = tmp_path / "other"
        etcd.start()
        etcd.put("fresh", "10.0.0.9")
        becomes(server, "fresh", ["10.0.0.9"])
        becomes(server, "old", "NXDOMAIN")
        etcd.control("compaction", "2")
        etcd.put("fresh", "10.0.0.10")
        becomes(server, "fresh", ["10.0.0.10"])


def test_authentication(etcd: Etcd, tmp_path: Path) -> None:
    """Wrong credentials are logged, and right ones work; so do credentials while authentication is off."""
    etcd.put("web", "10.0.0.1")
    with served(tmp_path, etcd, "credentials root right") as server:
        becomes(server, "web", ["10.0.0.1"])
        for command in (["user", "add", "root:right"], ["user", "grant-role", "root", "root"], ["auth", "enable"]):
            etcd.control(*command)
        etcd.put("web", "10.0.0.2", user="root:right")
        becomes(server, "web", ["10.0.0.2"])
        server.write(server.corefile.read_text().replace("root right", "root wrong"))
        server.process.send_signal(signal.SIGUSR1)
        until("the error", lambda: "authentication failed" in server.log)
        becomes(server, "web", "SERVFAIL")


@pytest.mark.parametrize("etcd", [True], indirect=True)
def test_tls(etcd: Etcd, tmp_path: Path) -> None:
    """Both sides have certificates."""
    etcd.put("web", "10.0.0.1")
    with served(tmp_path, etcd, f"tls {tmp_path}/client.pem {tmp_path}/client-key.pem {tmp_path}/ca.pem") as server:
        becomes(server, "web", ["10.0.0.1"])
