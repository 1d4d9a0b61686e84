"""Certificates and keys that were read into memory."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from svcdns.tls.errors import TlsError
from svcdns.tls.material import Material, expiry, file_paths, load_pair, read, split
from tests.support.certificates import Authority, authority, pair


def test_material_is_used_without_its_files(tmp_path: Path) -> None:
    """The files may be deleted after they were read."""
    certificate, key = pair().write(tmp_path)
    material = read(str(certificate), str(key))
    assert material == Material(*pair())
    certificate.unlink()
    key.unlink()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_pair(context, material)
    with pytest.raises(TlsError, match="key values mismatch"):
        load_pair(context, Material(pair().certificate, authority().pair("a").key))


def test_an_encrypted_key_is_an_error() -> None:
    """OpenSSL does not ask for a password."""
    key = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    with pytest.raises(TlsError, match="the private key is encrypted"):
        load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), Material(pair().certificate, key))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(b"", "ca.crt has no certificate in PEM form", id="empty"),
        pytest.param(b"\xff" * 20, "ca.crt has no certificate in PEM form", id="octets"),
        pytest.param(
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "certificate 1 of .*ca.crt cannot be used",
            id="broken",
        ),
        pytest.param(b"x" * (1 << 21), "has more than 1048576 octets", id="huge"),
    ],
)
def test_unusable_authorities_are_an_error(tmp_path: Path, content: bytes, error: str) -> None:
    (tmp_path / "ca.crt").write_bytes(content)
    with pytest.raises(TlsError, match=error):
        read("", "", str(tmp_path / "ca.crt"))


def test_a_file_with_only_authorities(tmp_path: Path) -> None:
    """The file may have other text between the certificates."""
    (tmp_path / "ca.crt").write_bytes(b"first\n" + authority().pem + b"second\n" + Authority().pem)
    material = read("", "", str(tmp_path / "ca.crt"))
    assert len(split(material.authorities)) == 2
    assert (material.certificates, material.key) == (b"", b"")


def test_the_expiry_of_a_chain() -> None:
    content = pair().certificate
    end = expiry(content)
    context = ssl.create_default_context(cadata=authority().pem.decode())
    (known,) = context.get_ca_certs()
    assert expiry(authority().pem) == ssl.cert_time_to_seconds(str(known["notAfter"]))
    assert expiry(content + authority().pem) == min(end, expiry(authority().pem))
    for broken in (b"", b"-----BEGIN CERTIFICATE-----\nMAAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(TlsError):
            expiry(broken)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ("", "", "")),
        (["ca"], ("", "", "/r/ca")),
        (["c", "/k"], ("/r/c", "/k", "")),
        (["c", "k", "ca"], ("/r/c", "/r/k", "/r/ca")),
    ],
)
def test_the_paths_of_an_option(words: list[str], expected: tuple[str, str, str]) -> None:
    assert file_paths(words, "/r") == expected
