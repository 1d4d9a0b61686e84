"""Certificate requests, and the check of the certificate that an ACME server has issued."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from svcdns.plugins.tls.acme.account_key import pem
from svcdns.plugins.tls.acme.errors import AcmeError
from svcdns.tls.contexts import server_context
from svcdns.tls.errors import TlsError
from svcdns.tls.material import Material, expiry

MOST: Final = 10
"""The most certificates of a chain."""

_UNREADABLE: Final = (
    ValueError, TypeError, IndexError, x509.InvalidVersion, x509.ExtensionNotFound, x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType, UnsupportedAlgorithm,
)  # fmt: skip


class CertificateRequest:
    """A new key, and the request for its certificate (RFC 2986)."""

    def __init__(self, domains: Sequence[str]) -> None:
        """The certificate is to be valid for `domains`."""
        self._domains = domains
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def der(self) -> bytes:
        """Returns the signed request."""
        names = x509.SubjectAlternativeName([x509.DNSName(domain) for domain in self._domains])
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return (
            builder.add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
            .public_bytes(serialization.Encoding.DER)
        )

    def accept(self, chain: bytes) -> Material:
        """Returns the issued certificate with the key. Raises AcmeError if another certificate was requested.

        `chain` is the PEM text of the certificate and its intermediate certificates.
        """
        try:
            found = x509.load_pem_x509_certificates(chain)
            leaf, public = found[0], found[0].public_key()
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            covered = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
        except _UNREADABLE:
            raise AcmeError("the issued certificate cannot be read") from None
        if len(found) > MOST:
            raise AcmeError(f"the issued chain has more than {MOST} certificates")
        if public != self._key.public_key():
            raise AcmeError("the issued certificate has another key")
        missing = [domain for domain in self._domains if domain not in covered]
        if missing:
            raise AcmeError(f"the issued certificate is not valid for {missing[0]}")
        text = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in found)
        material = Material(text, pem(self._key))
        try:
            if expiry(text) <= time.time():
                raise AcmeError("the issued certificate has expired")
            server_context(material)
        except TlsError as error:
            raise AcmeError(f"the issued certificate cannot be served: {error}") from None
        return material


def lifetime(certificates: bytes) -> float:
    """Returns the seconds for which a certificate chain (PEM) is valid; 0 if the start cannot be read."""
    try:
        leaf = x509.load_pem_x509_certificates(certificates)[0]
        return max(0.0, expiry(certificates) - leaf.not_valid_before_utc.timestamp())
    except (ValueError, TlsError):
        return 0.0
