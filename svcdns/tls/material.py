"""Certificates and keys as octets.

The control process reads them from files, and workers make TLS contexts of them. OpenSSL reads a certificate chain and
its key only from a path, so they are written to a file in memory (memfd_create(2)).
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from svcdns.process.shared_memory import memory_file
from svcdns.tls.errors import TlsError

MAX_OCTETS: Final = 1 << 20
"""The largest size of a file of certificates, in octets."""
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_DESCRIPTORS: Final = "/proc/self/fd" if Path("/proc/self/fd").is_dir() else "/dev/fd"
_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_TIMES: Final = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
"""For each ASN.1 tag (UTCTime, GeneralizedTime): the format of the time in certificates (RFC 5280 §4.1.2.5)."""


class Material(msgspec.Struct, frozen=True, array_like=True):
    """A certificate chain, its private key, and the authorities to trust. Each is PEM, or empty if not configured."""

    certificates: bytes = b""
    key: bytes = b""
    authorities: bytes = b""


def read(certificates: str, key: str, authorities: str = "") -> Material:
    """Reads PEM files. Raises TlsError if a file cannot be read or used. An empty path means no file."""
    material = Material(*(_content(path) if path else b"" for path in (certificates, key, authorities)))
    for path, content in ((certificates, material.certificates), (authorities, material.authorities)):
        if path and not split(content):
            raise TlsError(f"{path} has no certificate in PEM form")
    if material.certificates:
        try:
            load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), material)
            expiry(material.certificates)
        except TlsError as error:
            raise TlsError(f"{certificates} and {key}: {error}") from error
    for number, one in enumerate(split(material.authorities), 1):
        defect = _defect(one)
        if defect:
            raise TlsError(f"certificate {number} of {authorities} cannot be used: {defect}")
    return material


def file_paths(words: Sequence[str], root: str) -> tuple[str, str, str]:
    """Returns the paths of certificate, key and authorities in the words of an option `tls` for connections to servers.

    One word is the authorities, two are a certificate and its key. A path is empty if there is no word for it. Relative
    paths are below the folder `root`.
    """
    paths = [str(Path(root) / word) for word in words]
    authorities = paths.pop() if len(paths) in (1, 3) else ""
    certificate, key = paths or ("", "")
    return certificate, key, authorities


def _content(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_OCTETS + 1)
    except OSError as error:
        raise TlsError(f"open {path}: {(error.strerror or str(error)).lower()}") from error
    if len(content) > MAX_OCTETS:
        raise TlsError(f"{path} has more than {MAX_OCTETS} octets")
    return content


def split(content: bytes) -> list[str]:
    """Returns the certificates in a PEM text. Text between the certificates is ignored."""
    return [found.decode(errors="replace") for found in _CERTIFICATE.findall(content)]


def system_authorities() -> bytes:
    """Returns the authorities that the machine trusts, as PEM, without unusable ones.

    Returns no octets if the machine does not have its authorities in a single file.
    """
    path = ssl.get_default_verify_paths().cafile
    try:
        return _usable(_content(path)) if path else b""
    except TlsError:
        return b""


@lru_cache(maxsize=1)
def _usable(authorities: bytes) -> bytes:
    return "\n".join(one for one in split(authorities) if not _defect(one)).encode()


def _defect(authority: str) -> str:
    """Returns the reason why a certificate cannot be used as an authority, or an empty text if it can."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=authority)
    except ssl.SSLError as error:
        return reason(error)
    return ""


def load_pair(context: ssl.SSLContext, material: Material) -> None:
    """Loads the certificate chain and the private key into a context.

    Raises TlsError if they do not match or cannot be used.
    """
    if b"ENCRYPTED" in material.key:
        raise TlsError("the private key is encrypted; only unencrypted keys can be used")
    try:
        with memory_path(material.certificates) as certificates, memory_path(material.key) as key:
            context.load_cert_chain(certificates, key, password=_no_password)
    except ssl.SSLError as error:
        raise TlsError(reason(error)) from error


def _no_password() -> bytes:
    return b""  # without a password callback, OpenSSL would ask at the terminal


@contextmanager
def memory_path(content: bytes) -> Iterator[str]:
    """Yields a path at which this process can read the octets. The path is valid until the `with` block ends."""
    fd = memory_file("svcdns-pem")
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(content)
        os.lseek(fd, 0, os.SEEK_SET)
        yield f"{_DESCRIPTORS}/{fd}"
    finally:
        os.close(fd)


def reason(error: ssl.SSLError) -> str:
    """Returns OpenSSL's reason in a few words, such as `key values mismatch` or `certificate has expired`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verification failed: {error.verify_message.rstrip('.')}"
    return (error.reason or str(error)).lower().replace("_", " ")


def expiry(content: bytes) -> float:
    """Returns the earliest expiry of the certificates in a PEM text, as Unix seconds. Raises TlsError."""
    try:
        ends = [_not_after(ssl.PEM_cert_to_DER_cert(one)) for one in split(content)]
    except (IndexError, ValueError) as error:
        raise TlsError("a certificate cannot be read") from error
    if not ends:
        raise TlsError("there is no certificate")
    return min(ends)


def _not_after(der: bytes) -> float:
    """Returns the `notAfter` time of a certificate (RFC 5280 §4.1), as Unix seconds."""
    _, at, _ = _element(der, 0)
    _, at, _ = _element(der, at)
    tag, _, after = _element(der, at)
    if tag == _VERSION:
        _, _, after = _element(der, after)
    for _ in ("signature algorithm", "issuer"):
        _, _, after = _element(der, after)
    tag, at, _ = _element(der, after)
    if tag != _SEQUENCE:
        raise ValueError("no validity where there should be one")
    _, _, at = _element(der, at)
    tag, at, end = _element(der, at)
    return datetime.strptime(der[at:end].decode(), _TIMES.get(tag, "")).replace(tzinfo=UTC).timestamp()


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Returns the tag of the DER element at offset `at`, and the start and end of its contents (X.690 §8.1)."""
    tag, length = der[at], der[at + 1]
    at += 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[at : at + size], "big")
        at += size
    return tag, at, at + length
