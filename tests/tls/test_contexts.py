"""SSL contexts for TLS connections, as server and as client."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from svcdns.tls.contexts import client_context, server_context
from svcdns.tls.errors import TlsError
from svcdns.tls.material import Material
from tests.support.certificates import Authority, authority, pair


class Link:
    """A TLS client and a TLS server, connected in memory."""

    def __init__(self, client: ssl.SSLContext, server: ssl.SSLContext, name: str = "dns.test") -> None:
        """Connects a TLS client and a TLS server in memory. The handshake has not begun yet."""
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(down, up, server_hostname=name)
        self.server = server.wrap_bio(up, down, server_side=True)

    def greet(self) -> None:
        """Performs the handshake. Raises ssl.SSLError."""
        for _ in range(4):
            for side in (self.client, self.server):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue


SERVER = Material(*pair())
TRUSTING = Material(authorities=authority().pem)


def test_a_server_is_verified_by_name_or_address() -> None:
    for name in ("dns.test", "127.0.0.1"):
        link = Link(client_context(TRUSTING), server_context(SERVER), name)
        link.greet()
        assert link.client.version() == "TLSv1.3"


@pytest.mark.parametrize(
    ("names", "days", "name", "error"),
    [
        pytest.param(("other.test",), 9, "dns.test", "Hostname mismatch", id="other name"),
        pytest.param(("dns.test",), 9, "127.0.0.1", "IP address mismatch", id="no address"),
        pytest.param(("dns.test",), -1, "dns.test", "has expired", id="expired"),
    ],
)
def test_an_invalid_server_certificate_is_refused(names: tuple[str, ...], days: float, name: str, error: str) -> None:
    server = server_context(Material(*authority().pair(*names, days=days)))
    with pytest.raises(ssl.SSLCertVerificationError, match=error):
        Link(client_context(TRUSTING), server, name).greet()


def test_an_untrusted_authority_is_refused() -> None:
    """If no authorities are given, only the machine's authorities are trusted."""
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        Link(client_context(Material()), server_context(SERVER)).greet()


OWN = Material(*authority().pair("client.test"), authority().pem)


@pytest.mark.parametrize(
    ("verify", "client", "taken"),
    [
        pytest.param(ssl.CERT_NONE, TRUSTING, True, id="nocert without"),
        pytest.param(ssl.CERT_OPTIONAL, TRUSTING, True, id="verify_if_given without"),
        pytest.param(ssl.CERT_OPTIONAL, OWN, True, id="verify_if_given with"),
        pytest.param(ssl.CERT_REQUIRED, TRUSTING, False, id="require_and_verify without"),
        pytest.param(ssl.CERT_REQUIRED, OWN, True, id="require_and_verify with"),
    ],
)
def test_verification_of_clients(verify: ssl.VerifyMode, client: Material, taken: bool) -> None:
    """`client_auth` determines whether a client needs a certificate."""
    material = Material(SERVER.certificates, SERVER.key, authority().pem)
    link = Link(client_context(client), server_context(material, verify))
    if taken:
        link.greet()
        assert bool(link.server.getpeercert()) == (client is OWN and verify != ssl.CERT_NONE)
    else:
        with pytest.raises(ssl.SSLError, match=r"(?i)peer did not return a certificate"):
            link.greet()


def test_a_client_certificate_of_another_authority_is_refused() -> None:
    """The certificate is refused even if the listener requires none."""
    stranger = Material(*Authority().pair("client.test"), authority().pem)
    material = Material(SERVER.certificates, SERVER.key, authority().pem)
    for verify in (ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED):
        with pytest.raises(ssl.SSLCertVerificationError):
            Link(client_context(stranger), server_context(material, verify)).greet()


def test_old_versions_are_refused() -> None:
    """Client and server require at least TLS 1.2."""
    old = ssl.create_default_context(cadata=authority().pem.decode())
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    Link(old, server_context(SERVER)).greet()
    assert server_context(SERVER).minimum_version == client_context(TRUSTING).minimum_version == ssl.TLSVersion.TLSv1_2


def test_the_key_log_has_the_secrets_of_each_connection(tmp_path: Path) -> None:
    """The log has the format of NSS, which Wireshark reads."""
    Link(client_context(TRUSTING), server_context(SERVER, keylog=str(tmp_path / "log"))).greet()
    assert "SERVER_TRAFFIC_SECRET_0" in (tmp_path / "log").read_text()


def test_sockets_are_polled_between_authorities() -> None:
    """Loading a bundle of authorities may take tens of milliseconds."""
    polls: list[int] = []
    client_context(Material(authorities=authority().pem * 3), lambda: polls.append(1))
    assert len(polls) == 3


def test_unusable_material_is_an_error() -> None:
    with pytest.raises(TlsError):
        server_context(Material(SERVER.certificates, b"x"))
    with pytest.raises(TlsError):
        client_context(Material(authorities=b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
