"""The data of one ACME certificate for the workers: the certificate, and the values of challenges.

The module `acme.manager` makes the data. This module does not import the ACME client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from svcdns.log_line import LogLine
from svcdns.plugins.tls.acme.storage import Storage
from svcdns.plugins.tls.options import Acme
from svcdns.plugins.tls.served import ServerTls, decode
from svcdns.telemetry.logging import plugin_logger
from svcdns.tls.errors import TlsError
from svcdns.tls.material import Material, expiry, read

Challenges = Mapping[str, Sequence[str]]
"""The values of TXT records, by domain. For `www.example`, the owner is `_acme-challenge.www.example.`."""


def gather(acme: Acme, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Returns the data for a new Corefile: the data in `known`, or else the stored certificate, or else no certificate.

    Raises TlsError if the file of the option `ca_root` cannot be used.
    """
    if acme.ca_root:
        read("", "", acme.ca_root)
    challenges = known.get(acme.challenges_key, encode_challenges({}))
    certificate = known.get(acme.data_key, b"")
    if not certificate or decode(certificate).is_pending:
        certificate = msgspec.msgpack.encode(served(acme, stored(acme)))
    return {acme.data_key: certificate, acme.challenges_key: challenges}


def stored(acme: Acme) -> Material:
    """Returns the certificate in the storage. If there is none that can be used, the result is empty. Blocks."""
    try:
        return Storage(acme).certificate()
    except TlsError as error:
        plugin_logger("tls").warning(LogLine("acme: a new certificate is requested", error=error))
        return Material()


def served(acme: Acme, material: Material, failures: int = 0, next_attempt: float = 0.0) -> ServerTls:
    """Returns the data with a certificate. `material` is empty if there is none yet."""
    expires = expiry(material.certificates) if material.certificates else 0.0
    return ServerTls(acme.text, material, "nocert", "", expires, b"", failures, next_attempt)


def encode_challenges(values: Challenges) -> bytes:
    """Returns the values of challenges as octets."""
    return msgspec.msgpack.encode(values)


def decode_challenges(payload: bytes) -> dict[str, list[str]]:
    """Returns the values of challenges from the octets that `encode_challenges` returned."""
    return msgspec.msgpack.decode(payload, type=dict[str, list[str]])
