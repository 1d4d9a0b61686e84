"""QUIC configurations from PEM octets: what a client verifies, and which certificates are refused."""

from __future__ import annotations

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted

from svcdns.quic.configuration import client_configuration, server_configuration
from svcdns.quic.connection import BoundedConnection
from svcdns.tls.errors import TlsError
from svcdns.tls.material import Material
from tests.support.certificates import Authority
from tests.support.quic import NAME, SERVER, Pair, authority, material


def handshake(client: Material, name: str, *, server: Material | None = None, alpn: str = "doq") -> Pair:
    side = QuicConnection(configuration=client_configuration(client, alpn, 10.0, name))
    side.connect(SERVER, 1.0)
    configuration = server_configuration(server or material(), "doq", 10.0)
    pair = Pair(
        side,
        BoundedConnection(configuration, original_destination_connection_id=side.original_destination_connection_id),
    )
    pair.pass_on()
    return pair


def completed(pair: Pair) -> bool:
    done = any(isinstance(event, HandshakeCompleted) for event in pair.client_events)
    assert done or pair.server.is_closing
    return done


def test_trusted_certificate_for_the_name_is_accepted() -> None:
    assert completed(handshake(Material(authorities=authority().pem), NAME))


def test_text_between_certificates_is_ignored() -> None:
    chatty = Material(b"subject=x\n" + material().certificates + b"\n\n", material().key)
    assert completed(handshake(Material(authorities=b"issuer=y\n" + authority().pem + b"\n"), NAME, server=chatty))


@pytest.mark.parametrize(
    ("authorities", "name", "alpn"),
    [
        pytest.param(Authority().pem, NAME, "doq", id="another authority"),
        pytest.param(authority().pem, "other.test", "doq", id="another name"),
        pytest.param(authority().pem, NAME, "h3", id="another protocol"),
    ],
)
def test_handshake_fails(authorities: bytes, name: str, alpn: str) -> None:
    assert not completed(handshake(Material(authorities=authorities), name, alpn=alpn))


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(Material(b"", b""), id="nothing"),
        pytest.param(Material(b"text", b"text"), id="no PEM"),
        pytest.param(
            Material(material().certificates, b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"),
            id="no key",
        ),
    ],
)
def test_unusable_certificate_raises_an_error(bad: Material) -> None:
    with pytest.raises(TlsError):
        server_configuration(bad, "doq", 10.0)
