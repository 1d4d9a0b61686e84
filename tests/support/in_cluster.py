"""What a Pod needs to read the API server: the files of its service account, and a cluster behind TLS."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from tests.support import certificates
from tests.support.api_double import ApiDouble, endpoint_slice, namespace, service

SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"


def service_account(folder: Path, token: str) -> Path:
    """Writes the files of a service account into a new folder below `folder`, and returns the path of that folder."""
    account = folder / "account"
    account.mkdir()
    account.chmod(0o755)
    (account / "token").write_text(token)
    (account / "namespace").write_text("kube-system")
    (account / "ca.crt").write_bytes(certificates.authority().pem)
    return account


def cluster(address: str, token: str, tls: ssl.SSLContext) -> ApiDouble:
    """Returns an API server with a Service `web` for clients with this token."""
    meta = {"namespace": "default"}
    double = ApiDouble(
        [namespace("default"), service("web", address, 80, **meta), endpoint_slice("web-1", "web", "10.1.0.1", **meta)],
        tls=tls,
    )
    double.token = token
    return double
