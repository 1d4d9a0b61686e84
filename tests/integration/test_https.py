"""DNS over HTTPS with other programs: kdig and curl as clients, and CoreDNS (the environment variable COREDNS) as the
other side in both directions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.query
import pytest

from tests.support.certificates import authority, pair
from tests.support.encrypted import packet, target
from tests.support.server import TIMEOUT, Server, free_port, until

pytestmark = pytest.mark.integration

HTTPS = """
https://.:{https} {
    bind 127.0.0.1
    tls {dir}/server.crt {dir}/server.key
    hosts {
        192.0.2.7 www.example
    }
}
.:{port} {
    bind 127.0.0.1
    ready 127.0.0.1:{ready}
    hosts {
        192.0.2.7 www.example
    }
}
"""
FORWARD = """
.:{port} {
    bind 127.0.0.1
    ready 127.0.0.1:{ready}
    forward . https://127.0.0.1:UPSTREAM {
        tls {dir}/ca.crt
        tls_servername dns.test
        doh_method METHOD
    }
}
"""


def needs(program: str) -> str:
    """Returns the path of a program. Skips the test if it is missing."""
    path = shutil.which(os.environ.get("COREDNS", "") if program == "coredns" else program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


class HttpsServer(Server):
    """A server of svcdns with a port for HTTPS: {https} in its Corefile."""

    def write(self, corefile: str) -> None:
        self.ports.setdefault("https", free_port())
        pair().write(self.folder)
        authority().write(self.folder)
        super().write(corefile)


class CoreDns(HttpsServer):
    """CoreDNS with the same Corefile."""

    def command(self) -> list[str]:
        return [needs("coredns")]


@contextmanager
def running(kind: type[HttpsServer], folder: Path, corefile: str) -> Iterator[HttpsServer]:
    folder.mkdir(exist_ok=True)
    with kind(folder, corefile) as server:
        server.until_ready()
        yield server


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout


def test_kdig(tmp_path: Path) -> None:
    kdig = needs("kdig")
    with running(HttpsServer, tmp_path, HTTPS) as server:
        for more in ((), ("+https-get",)):
            words = (
                f"-p{server.ports['https']}",
                "+https",
                *more,
                f"+tls-ca={tmp_path}/ca.crt",
                "+tls-hostname=dns.test",
            )
            assert "192.0.2.7" in output(kdig, "@127.0.0.1", *words, "+short", "www.example")


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl(version: str, tmp_path: Path) -> None:
    curl = needs("curl")
    with running(HttpsServer, tmp_path, HTTPS) as server:
        (tmp_path / "query").write_bytes(packet("www.example."))
        port = server.ports["https"]
        common = (curl, version, "-s", "--cacert", f"{tmp_path}/ca.crt", "--resolve", f"dns.test:{port}:127.0.0.1")
        url = f"https://dns.test:{port}"
        post = ("--data-binary", f"@{tmp_path}/query", "-H", "content-type: application/dns-message")
        for words in ((url + target(packet("www.example.")),), (*post, f"{url}/dns-query")):
            output(*common, *words, "-o", f"{tmp_path}/reply")
            assert str(dns.message.from_wire((tmp_path / "reply").read_bytes()).answer[0][0]) == "192.0.2.7"
        assert output(*common, "-X", "PUT", "-w", "%{http_code}", f"{url}/dns-query") == "invalid request\n400"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("client", "server"), [(CoreDns, HttpsServer), (HttpsServer, CoreDns)], ids=["client", "server"]
)
def test_coredns(client: type[HttpsServer], server: type[HttpsServer], method: str, tmp_path: Path) -> None:
    """CoreDNS is the client, and then the server."""
    needs("coredns")
    with running(server, tmp_path / "server", HTTPS) as upstream:
        corefile = FORWARD.replace("UPSTREAM", str(upstream.ports["https"])).replace("METHOD", method)
        with running(client, tmp_path / "client", corefile) as forwarder:
            query = dns.message.make_query("www.example.", "A")

            def answer() -> str:
                reply = dns.query.udp(query, "127.0.0.1", 5, forwarder.ports["port"])
                return str(reply.answer[0][0]) if reply.answer else ""

            until("the answer", lambda: answer() == "192.0.2.7")


@pytest.mark.parametrize("version", [dns.query.HTTPVersion.H1, dns.query.HTTPVersion.H2], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("post", [True, False], ids=["POST", "GET"])
def test_dnspython_as_client(tmp_path: Path, version: dns.query.HTTPVersion, post: bool) -> None:
    """The certificate is verified. `tests/end_to_end/test_quic.py` has dnspython's clients for DoQ and HTTP/3."""
    with running(HttpsServer, tmp_path / "server", HTTPS) as server:
        query = dns.message.make_query("www.example.", "A")
        reply = dns.query.https(
            query,
            f"https://dns.test:{server.ports['https']}/dns-query",
            TIMEOUT,
            bootstrap_address="127.0.0.1",
            http_version=version,
            post=post,
            verify=authority().client(),
        )
        assert [rrset[0].to_text() for rrset in reply.answer] == ["192.0.2.7"]
