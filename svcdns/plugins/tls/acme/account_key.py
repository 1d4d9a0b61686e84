"""The key of an ACME account: its file, and the signatures of requests (RFC 8555 §6.2, RFC 7515)."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from svcdns.plugins.tls.acme.errors import AcmeError

SIZE: Final = 32
"""Octets of a coordinate, and of each number in a signature, for ES256 (RFC 7518 §3.4)."""


class AccountKey:
    """An ECDSA key with the curve P-256."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        """`private` is the key."""
        self._private = private
        numbers = private.public_key().public_numbers()
        self._jwk = {
            "crv": "P-256",
            "kty": "EC",
            "x": encode(numbers.x.to_bytes(SIZE, "big")),
            "y": encode(numbers.y.to_bytes(SIZE, "big")),
        }

    @classmethod
    def generate(cls) -> AccountKey:
        """Returns a new key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> AccountKey:
        """Returns the key of a PEM text. Raises AcmeError. The error text contains no part of the key."""
        try:
            key = serialization.load_pem_private_key(pem, None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise AcmeError("the file of the account key has no ECDSA key with the curve P-256")
        return cls(key)

    @property
    def pem(self) -> bytes:
        """Returns the key as PEM text (PKCS #8)."""
        return pem(self._private)

    @property
    def thumbprint(self) -> str:
        """Returns the thumbprint of the public key (RFC 7638)."""
        text = json.dumps(self._jwk, separators=(",", ":"), sort_keys=True)
        return encode(hashlib.sha256(text.encode()).digest())

    def challenge_value(self, token: str) -> str:
        """Returns the value of the TXT record for a challenge (RFC 8555 §8.4)."""
        return encode(hashlib.sha256(f"{token}.{self.thumbprint}".encode()).digest())

    def sign(self, url: str, nonce: str, payload: dict[str, Any] | None, account: str = "") -> bytes:
        """Returns the signed body of a request.

        Without `payload`, the request reads a resource (POST-as-GET). `account` is the URL of the account; if it is
        empty, the request contains the public key.
        """
        who: dict[str, Any] = {"kid": account} if account else {"jwk": self._jwk}
        protected = encode(json.dumps({"alg": "ES256", "nonce": nonce, "url": url, **who}).encode())
        content = "" if payload is None else encode(json.dumps(payload).encode())
        r, s = decode_dss_signature(self._private.sign(f"{protected}.{content}".encode(), ec.ECDSA(hashes.SHA256())))
        signature = encode(r.to_bytes(SIZE, "big") + s.to_bytes(SIZE, "big"))
        return json.dumps({"protected": protected, "payload": content, "signature": signature}).encode()


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Returns a private key as PEM text (PKCS #8)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def encode(octets: bytes) -> str:
    """Returns octets in base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
