"""*tls* with ACME: Debian's `pebble` issues certificates, and asks this server for the challenges."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.query
import pytest
from cryptography import x509

from tests.support.certificates import authority, pair
from tests.support.server import TIMEOUT, Server, free_port, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

COREFILE = """
.:{port} {
    bind 127.0.0.1
    ready 127.0.0.1:{ready}
    prometheus 127.0.0.1:{metrics}
    cache 30
    template IN ANY {
        rcode NXDOMAIN
    }
}
(managed) {
    bind 127.0.0.1
    tls {
        acme dns.acme.test *.acme.test acme.test
        email hostmaster@acme.test
        ca https://127.0.0.1:{acme}/dir
        ca_root ca.crt
    }
    whoami
}
tls://.:{dot} {
    import managed
}
https://.:{https} {
    import managed
}
quic://.:{quic} {
    import managed
}
"""
VALID = 20
"""The seconds for which a certificate is valid. The renewal begins after two thirds of the time."""
EXPIRY = "svcdns_tls_certificate_expiry_timestamp_seconds"
DOMAINS = {"dns.acme.test", "*.acme.test", "acme.test"}


@functools.cache
def acme_port() -> int:
    """Returns the port of pebble, which is the same for all servers of a test."""
    return free_port()


class AcmeServer(Server):
    """A server of svcdns with listeners for DoT, DoH and DoQ."""

    def write(self, corefile: str) -> None:
        self.ports["acme"] = acme_port()
        for name in ("dot", "https", "quic"):
            self.ports.setdefault(name, free_port())
        authority().write(self.folder)
        super().write(corefile)

    def until_certified(self, before: x509.Certificate | None = None) -> x509.Certificate:
        """Returns the certificate, if it is not `before`. Waits for it."""
        found: list[x509.Certificate] = []

        def is_there() -> bool:
            found[:] = [one for one in [self.certificate()] if one not in (None, before)]
            return bool(found)

        until("a certificate", is_there)
        return found[0]

    def certificate(self, name: str = "dot") -> x509.Certificate | None:
        """Returns the certificate of a listener over TCP, or None if the handshake fails."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with (
                socket.create_connection(("127.0.0.1", self.ports[name]), 10) as plain,
                context.wrap_socket(plain, server_hostname="dns.acme.test") as sock,
            ):
                found = sock.getpeercert(binary_form=True)
        except OSError:
            return None
        return x509.load_der_x509_certificate(found or b"")


@contextmanager
def pebble(server: Server, seconds: int) -> Iterator[None]:
    """Runs pebble, whose certificates are valid for `seconds`. It refuses half of all nonces, and asks `server`."""
    program = shutil.which("pebble")
    if program is None:
        pytest.skip("pebble is not installed")
    pair().write(server.folder, "pebble")
    settings = {
        "listenAddress": f"127.0.0.1:{server.ports['acme']}",
        "certificate": str(server.folder / "pebble.crt"),
        "privateKey": str(server.folder / "pebble.key"),
        "httpPort": 5002,
        "tlsPort": 5001,
        "certificateValidityPeriod": seconds,
    }
    config = server.folder / "pebble.json"
    config.write_text(json.dumps({"pebble": settings}))
    environ = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "50", "PEBBLE_AUTHZREUSE": "0"}
    asked = f"127.0.0.1:{server.ports['port']}"
    with (server.folder / "pebble.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-config", str(config), "-dnsserver", asked, "-strict"],
            env=environ,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_a_certificate_is_obtained_and_renewed(tmp_path: Path) -> None:
    """All listeners have it. A reload, an upgrade in place, and a start without pebble keep it."""
    with AcmeServer(tmp_path, COREFILE) as server:
        server.until_ready()
        assert server.certificate() is None, "a handshake fails until the first certificate is there"
        server.until_logged(
            'acme: no new certificate domains=*.acme.test,acme.test,dns.acme.test error="127.0.0.1: connect'
        )
        assert server.metric("svcdns_tls_acme_failures") == 1
    with AcmeServer(tmp_path, COREFILE) as server:
        with pebble(server, VALID):
            first = server.until_certified()
            names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert set(names.get_values_for_type(x509.DNSName)) == DOMAINS
            until("the same certificate over HTTPS", lambda: server.certificate("https") == first)
            assert over_quic(server).answer == []
            second = server.until_certified(first)
            assert server.metric("svcdns_tls_acme_failures") == 0
            until("the metric", lambda: server.metric(EXPIRY) == second.not_valid_after_utc.timestamp())
        for number, text in ((signal.SIGUSR1, "Reloading complete"), (signal.SIGUSR2, "the upgrade is complete")):
            last = server.until_certified()
            server.process.send_signal(number)
            server.until_logged(text)
            assert server.certificate() == last
        kept = server.certificate("https")
        assert server.stop() == 0
        assert "PRIVATE KEY" not in server.log
    with AcmeServer(tmp_path, COREFILE) as server:
        server.until_ready()
        assert server.certificate() == server.certificate("https") == kept
        files = list((tmp_path / ".coredns" / "acme").rglob("*.pem"))
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def over_quic(server: AcmeServer) -> dns.message.Message:
    """Returns the reply of *whoami* over QUIC."""
    query = dns.message.make_query("example.org", "A")
    return dns.query.quic(query, "127.0.0.1", TIMEOUT, server.ports["quic"], verify=False)
