"""DNS over TLS (RFC 7858) for clients: certificates, client authentication, reload, stop and upgrade. Plain DNS is
served, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import pytest

from tests.support.certificates import Authority, Pair, authority, pair
from tests.support.server import TIMEOUT, Server, free_port, http, until

COREFILE = """
.:{port} {
    bind 127.0.0.1
    ready 127.0.0.1:{ready}
    whoami
    reload 2s 0
}
tls://.:{tls} {
    bind 127.0.0.1
    root {dir}
    tls server.crt server.key MORE
    prometheus 127.0.0.1:{metrics}
    whoami
}
"""


class TlsServer(Server):
    """A server with four ports for TLS: {tls}, {tls2}, {tls3} and {tls4} in its Corefile."""

    def write(self, corefile: str) -> None:
        for name in ("tls", "tls2", "tls3", "tls4"):
            self.ports.setdefault(name, free_port())
        super().write(corefile)

    def secure(self, context: ssl.SSLContext | None = None, port: str = "tls") -> ssl.SSLSocket:
        """Returns a TLS connection after its handshake. Raises OSError if the handshake fails."""
        context = context or authority().client()
        plain = socket.create_connection(("127.0.0.1", self.ports[port]), 5)
        try:
            return context.wrap_socket(plain, server_hostname="dns.test", suppress_ragged_eofs=False)
        except OSError:
            plain.close()
            raise

    def ask_tls(self, context: ssl.SSLContext | None = None, port: str = "tls") -> bool:
        """Returns True if a query over a new connection is answered. Raises ssl.SSLError."""
        with self.secure(context, port) as secure:
            return asked(secure)

    def certificate(self) -> bytes:
        """Returns the certificate that a new connection gets, in DER."""
        with self.secure() as secure:
            return secure.getpeercert(binary_form=True) or b""


def asked(secure: ssl.SSLSocket) -> bool:
    """Returns True if a query on this connection is answered."""
    query = dns.message.make_query("a.b.", "A")
    dns.query.send_tcp(secure, query)
    reply, _ = dns.query.receive_tcp(secure, time.time() + 5)
    return reply.id == query.id and bool(reply.flags & dns.flags.QR)


def der(one: Pair) -> bytes:
    """Returns the pair's certificate in DER."""
    return ssl.PEM_cert_to_DER_cert(
        one.certificate.decode().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    )


@contextlib.contextmanager
def serving(folder: Path, more: str = "", corefile: str = COREFILE) -> Iterator[TlsServer]:
    """Runs a server with a certificate."""
    pair().write(folder)
    authority().write(folder)
    with TlsServer(folder, corefile.replace("MORE", more)) as server:
        server.until_ready()
        yield server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    """A server for tests that do not change it."""
    with serving(tmp_path_factory.mktemp("shared")) as server:
        yield server


def test_answers_over_tls(tmp_path: Path) -> None:
    """The client verifies the certificate. The port accepts neither plain DNS nor UDP. Plain DNS has another port."""
    with serving(tmp_path) as server:
        assert server.ask_tls()
        query = dns.message.make_query("a.b.", "A")
        reply = dns.query.tls(
            query,
            "127.0.0.1",
            TIMEOUT,
            server.ports["tls"],
            ssl_context=authority().client(),
            server_hostname="dns.test",
        )
        assert reply.id == query.id
        assert server.ask("a.b.") is not None
        assert f"tls://.:{server.ports['tls']} on 127.0.0.1" in server.log
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", server.ports["tls"]))
        with pytest.raises((EOFError, OSError)):
            dns.query.tcp(query, "127.0.0.1", TIMEOUT, server.ports["tls"])
        with pytest.raises(ssl.SSLCertVerificationError):
            server.ask_tls(Authority().client())
        label = f'server="tls://127.0.0.1:{server.ports["tls"]}"'
        until("metrics", lambda: server.metric(f'coredns_dns_requests_total{{[^}}]*proto="tcp",{label}') == 2)
        assert server.metric(f'svcdns_tls_handshakes_total{{result="full",{label}') >= 2
        assert server.metric(f'svcdns_tls_handshakes_total{{result="failed",{label}') >= 1
        until(
            "expiry",
            lambda: server.metric("svcdns_tls_certificate_expiry_timestamp_seconds") > time.time() + 29 * 86400,
        )


CLIENT_AUTH = "tls://.:{%s} {\n bind 127.0.0.1\n root {dir}\n tls server.crt server.key ca.crt {\n  client_auth %s\n }\n whoami\n}\n"


def test_client_certificates(tmp_path: Path) -> None:
    """`client_auth` determines whether a client without a certificate, or with an unknown authority, is served."""
    own = authority().client(authority().pair("client.test"), tmp_path)
    foreign = authority().client(Authority().pair("client.test"), tmp_path)
    ports = {"tls2": "nocert", "tls3": "verify_if_given", "tls4": "require_and_verify"}
    corefile = COREFILE.replace("MORE", "") + "".join(CLIENT_AUTH % block for block in ports.items())
    with serving(tmp_path, corefile=corefile) as server:
        for port, client_auth in ports.items():
            assert server.ask_tls(own, port)
            for context, accepted in (
                (authority().client(), client_auth != "require_and_verify"),
                (foreign, client_auth == "nocert"),
            ):
                if accepted:
                    assert server.ask_tls(context, port)
                else:
                    with pytest.raises((OSError, EOFError)):
                        server.ask_tls(context, port)


@pytest.mark.slow  # the files are looked at every ten seconds
def test_certificates_are_read_again(tmp_path: Path) -> None:
    """New connections get the new certificate. A key that does not match changes nothing, and is logged."""
    new, newer = authority().pair("dns.test", days=60), authority().pair("dns.test", days=90)
    with serving(tmp_path) as server, server.secure() as before:
        stop = threading.Event()

        def keep() -> None:
            while not stop.wait(1):
                asked(before)

        keeping = threading.Thread(target=keep)
        keeping.start()
        try:
            assert server.certificate() == der(pair())
            new.write(tmp_path)
            until("the new certificate", lambda: server.certificate() == der(new))
            assert "the certificate was read again path=" in server.log
            (tmp_path / "server.crt").write_bytes(newer.certificate)
            server.until_logged('key values mismatch" valid_until="')
            until("the metric", lambda: server.metric("svcdns_tls_certificate_refused") == 1)
            assert server.certificate() == der(new)
            newer.write(tmp_path)
            until("the newer certificate", lambda: server.certificate() == der(newer))
            until("the metric", lambda: server.metric("svcdns_tls_certificate_refused") == 0)
        finally:
            stop.set()
            keeping.join()
        assert asked(before)


def test_a_port_changes_its_transport(tmp_path: Path) -> None:
    """A reload can change a port from plain TCP to TLS and back. Plain connections are closed."""
    plain = COREFILE.replace("tls://.:{tls}", ".:{tls}").replace("tls server.crt server.key MORE", "")
    with serving(tmp_path, corefile=plain) as server:
        with socket.create_connection(("127.0.0.1", server.ports["tls"])) as old:
            old.settimeout(TIMEOUT)
            server.write(COREFILE.replace("MORE", ""))
            server.process.send_signal(signal.SIGUSR1)
            assert old.recv(1) == b""
        until("TLS", lambda: _answers(server))
        server.write(plain)
        server.process.send_signal(signal.SIGUSR1)
        query = dns.message.make_query("a.b.", "A")
        until("plain DNS", lambda: _plain(server, query))
        assert dns.query.udp(query, "127.0.0.1", TIMEOUT, server.ports["tls"]).id == query.id


def _answers(server: TlsServer) -> bool:
    try:
        return server.ask_tls()
    except OSError:
        return False


def _plain(server: TlsServer, query: dns.message.Message) -> bool:
    try:
        return dns.query.tcp(query, "127.0.0.1", TIMEOUT, server.ports["tls"]).id == query.id
    except (OSError, EOFError):
        return False


def test_a_reload_with_a_missing_key_changes_nothing(shared: TlsServer) -> None:
    """The whole Corefile is refused, and the previous Corefile stays in use."""
    before = shared.corefile.read_text()
    shared.corefile.write_text(before.replace("server.key", "other.key"))
    shared.process.send_signal(signal.SIGUSR1)
    shared.until_logged("plugin/tls: open ")
    assert shared.ask_tls()
    shared.corefile.write_text(before)


def test_a_reload_serves_a_new_certificate(tmp_path: Path) -> None:
    new = authority().pair("dns.test", days=60)
    with serving(tmp_path) as server, server.secure() as before:
        assert server.certificate() == der(pair())
        new.write(tmp_path)
        server.process.send_signal(signal.SIGUSR1)
        until("the new certificate", lambda: server.certificate() == der(new))
        assert asked(before)


def test_a_worker_that_is_killed(shared: TlsServer) -> None:
    old = shared.children()["worker 0"]
    os.kill(old, signal.SIGKILL)
    until("another worker", lambda: shared.children().get("worker 0", old) != old and _answers(shared))


def test_a_stop_ends_connections_properly(tmp_path: Path) -> None:
    """Clients get a close_notify alert (RFC 8446 §6.1), which shows that no data is missing."""
    with serving(tmp_path) as server, server.secure() as secure:
        assert asked(secure)
        server.process.send_signal(signal.SIGTERM)
        assert secure.recv(1) == b""
        assert server.process.wait(TIMEOUT) == 0


@pytest.mark.slow
def test_an_upgrade_in_place(tmp_path: Path) -> None:
    """The old worker closes each TLS connection after a reply, with close_notify. New connections are
    always accepted.
    """
    with serving(tmp_path) as server, server.secure() as secure, server.secure() as idle:
        assert asked(secure)
        assert asked(idle)
        server.process.send_signal(signal.SIGUSR2)
        until("the new worker", lambda: asked(secure) and 'a process is replaced process="worker 0"' in server.log)
        assert secure.recv(1) == b""
        assert server.ask_tls()
        until("the end of the upgrade", lambda: server.ask_tls() and "the upgrade is complete" in server.log)
        assert idle.recv(1) == b""
        assert http(server.ports["ready"], "/ready")[0] == 200


def asked_until_refused(port: int) -> int:
    """Sends queries over UDP until the port refuses them. Returns the number of answers. Raises TimeoutError if a query
    is neither answered nor refused.
    """
    count, query = 0, dns.message.make_query("a.b.", "A").to_wire()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(("127.0.0.1", port))
        while True:
            try:
                sock.send(query)
                sock.recv(512)
            except ConnectionRefusedError:
                return count
            count += 1


@pytest.mark.slow
def test_a_stop_ends_an_unfinished_upgrade(tmp_path: Path) -> None:
    """An idle TLS connection keeps the old worker running. The server still stops in time."""
    health = "    health 127.0.0.1:{health} {\n        lameduck 500ms\n    }\n"
    corefile = COREFILE.replace("    whoami\n    reload", f"{health}    whoami\n    reload")
    with serving(tmp_path, corefile=corefile) as server, server.secure() as secure:
        assert asked(secure)
        server.process.send_signal(signal.SIGUSR2)
        until("the new worker", lambda: 'a process is replaced process="worker 0"' in server.log)
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(asked_until_refused, server.ports["port"])
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert secure.recv(1) == b""
            assert server.process.wait(20) == 0
            assert time.monotonic() - began < 0.5 + 7.0
            assert asking.result() > 0
        assert "[INFO] the upgrade ends unfinished, because the server stops" in server.log
        assert "the upgrade is complete" not in server.log
        assert "Traceback" not in server.log


FORWARDING = """
.:{port} {
    bind 127.0.0.1
    ready 127.0.0.1:{ready}
    root {dir}
    forward . tls://127.0.0.1%NAME:{tls} {
        tls ca.crt
    }
}
tls://.:{tls} {
    bind 127.0.0.1
    root {dir}
    tls server.crt server.key
    prometheus 127.0.0.1:{metrics}
    hosts {
        192.0.2.7 a.example.org
    }
}
"""


def test_an_upstream_over_tls(tmp_path: Path) -> None:
    """The server uses one TLS connection. It does not forward to an upstream with another name in its certificate."""
    with serving(tmp_path, corefile=FORWARDING.replace("NAME", "dns.test")) as server:
        for tcp in (False, True, False):
            assert server.records("a.example.org.", tcp=tcp) == ["192.0.2.7"]
        until("metrics", lambda: server.metric('coredns_dns_requests_total{[^}]*server="tls://') == 3)
        assert server.metric('svcdns_tls_handshakes_total{result="full"') == 1
        assert server.metric('coredns_proxy_conn_cache_hits_total{[^}]*proto="tcp-tls"') == 2
        server.write(FORWARDING.replace("NAME", "other.test"))
        server.process.send_signal(signal.SIGUSR1)
        server.until_logged("Reloading complete")
        assert server.records("a.example.org.") == ["SERVFAIL"]
