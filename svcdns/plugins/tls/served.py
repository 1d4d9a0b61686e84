"""The certificates that the control process sends to the workers, and their metrics."""

from __future__ import annotations

import ssl
import time
from typing import Final

import msgspec

from svcdns.plugins.tls.options import CLIENT_AUTH
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.tls.material import Material

EXPIRY: Final = Family(
    "svcdns_tls_certificate_expiry_timestamp_seconds",
    MetricKind.GAUGE,
    "Expiry of the served certificate chain (its first certificate to expire), in Unix seconds.",
    ("certificate",),
    uniform=True,
)
REFUSED: Final = Family(
    "svcdns_tls_certificate_refused",
    MetricKind.GAUGE,
    "1 while the certificate files cannot be used and the certificate read before is served.",
    ("certificate",),
    uniform=True,
)
ACME_FAILURES: Final = Family(
    "svcdns_tls_acme_failures",
    MetricKind.GAUGE,
    "Failed attempts to obtain a certificate from the ACME server since the last success.",
    ("certificate",),
    uniform=True,
)
ACME_NEXT: Final = Family(
    "svcdns_tls_acme_next_attempt_timestamp_seconds",
    MetricKind.GAUGE,
    "Time of the next attempt to obtain a certificate from the ACME server, in Unix seconds.",
    ("certificate",),
    uniform=True,
)


class ServerTls(msgspec.Struct, frozen=True, array_like=True):
    """The certificates and keys that the control process sends to the workers, and how to use them.

    `expires` is the expiry of the certificate in Unix seconds. `refused` is the error text of newer files that cannot
    be used, otherwise empty. `failures` and `next_attempt` are the values of the metrics of ACME; `failures` is -1 for
    certificates from files. Before an ACME server has issued the first certificate, `material` is empty.
    """

    certificate: str
    material: Material
    client_auth: str
    keylog: str
    expires: float
    refused: bytes = b""
    failures: int = -1
    next_attempt: float = 0.0

    @property
    def verify(self) -> ssl.VerifyMode:
        """Returns the `ssl` module's constant for whether clients may or must present a certificate."""
        return CLIENT_AUTH.get(self.client_auth, ssl.CERT_NONE)

    @property
    def is_pending(self) -> bool:
        """Returns True if there is no certificate yet."""
        return not self.material.certificates


def decode(payload: bytes) -> ServerTls:
    """Returns the ServerTls object that `gather` encoded."""
    return msgspec.msgpack.decode(payload, type=ServerTls)


def day(seconds: float) -> str:
    """Returns a time in Unix seconds as text, for log lines."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
