"""QUIC configurations from certificates and keys as octets. TLS 1.3 is part of QUIC (RFC 9001)."""

from __future__ import annotations

import ssl
from typing import Final

from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import load_pem_private_key, load_pem_x509_certificates

from svcdns.quic.connection import CONNECTION_WINDOW, STREAM_WINDOW
from svcdns.tls.errors import TlsError
from svcdns.tls.material import Material, split

ID_LENGTH: Final = 8
"""The octets of the connection IDs that this program chooses."""
MIN_IDLE: Final = 1.0
"""The shortest idle timeout, in seconds: shorter ones would end handshakes."""


def server_configuration(material: Material, alpn: str, idle: float) -> QuicConfiguration:
    """Returns the configuration of a listener's connections. Raises TlsError if the certificate cannot be used.

    `alpn` is the application protocol, and `idle` the idle timeout in seconds. A client cannot resume a TLS session or
    send 0-RTT data, because no session tickets are sent.
    """
    configuration = _configuration(alpn, idle, is_client=False)
    _use_certificate(configuration, material)
    return configuration


def client_configuration(material: Material, alpn: str, idle: float, name: str) -> QuicConfiguration:
    """Returns the configuration of connections to a server. Raises TlsError.

    The server's certificate must be valid for `name`. The authorities in `material` are trusted, or those of the system
    if there are none.
    """
    configuration = _configuration(alpn, idle, is_client=True)
    configuration.server_name = name
    configuration.verify_mode = ssl.CERT_REQUIRED
    if material.authorities:
        configuration.cadata = _plain(material.authorities)
    else:
        paths = ssl.get_default_verify_paths()
        configuration.cafile, configuration.capath = paths.cafile, paths.capath
    if material.certificates:
        _use_certificate(configuration, material)
    return configuration


def _configuration(alpn: str, idle: float, *, is_client: bool) -> QuicConfiguration:
    return QuicConfiguration(
        alpn_protocols=[alpn],
        connection_id_length=ID_LENGTH,
        idle_timeout=max(MIN_IDLE, idle),
        is_client=is_client,
        max_data=CONNECTION_WINDOW,
        max_stream_data=STREAM_WINDOW,
    )


def _use_certificate(configuration: QuicConfiguration, material: Material) -> None:
    try:
        first, *others = load_pem_x509_certificates(_plain(material.certificates))
        configuration.certificate, configuration.certificate_chain = first, others
        configuration.private_key = load_pem_private_key(material.key)
    except (ValueError, TypeError) as error:
        raise TlsError(str(error)) from error


def _plain(certificates: bytes) -> bytes:
    """Returns the certificates of a PEM text, without the text between them."""
    return "".join(f"{one}\n" for one in split(certificates)).encode()
