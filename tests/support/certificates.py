"""Certificates for tests, from an authority that each test run creates, and TLS contexts for servers and clients."""

from __future__ import annotations

import functools
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import trustme


class Pair(NamedTuple):
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str = "server") -> tuple[Path, Path]:
        """Writes certificate and key into files, and returns the paths."""
        paths = folder / f"{name}.crt", folder / f"{name}.key"
        for path, content in zip(paths, self, strict=True):
            path.write_bytes(content)
        return paths


class Authority:
    """A certificate authority for tests."""

    def __init__(self) -> None:
        """Creates a new authority. Nothing trusts it yet."""
        self._ca = trustme.CA()

    @property
    def pem(self) -> bytes:
        """Returns the authority's own certificate, as PEM."""
        return self._ca.cert_pem.bytes()

    def write(self, folder: Path, name: str = "ca") -> Path:
        """Writes the authority's certificate into a file, and returns the path."""
        path = folder / f"{name}.crt"
        path.write_bytes(self.pem)
        return path

    def pair(self, *names: str, days: float = 30.0) -> Pair:
        """Returns a certificate for these names and addresses. It is valid from two days ago until `days` days from
        now.
        """
        now = datetime.now(UTC)
        leaf = self._ca.issue_cert(*names, not_before=now - timedelta(2), not_after=now + timedelta(days))
        return Pair(b"".join(one.bytes() for one in leaf.cert_chain_pems), leaf.private_key_pem.bytes())

    def client(self, pair: Pair | None = None, folder: Path | None = None) -> ssl.SSLContext:
        """Returns the TLS context of a client that trusts this authority. `pair` is the client's certificate."""
        context = ssl.create_default_context(cadata=self.pem.decode())
        if pair is not None:
            assert folder is not None
            context.load_cert_chain(*pair.write(folder, "client"))
        return context


def server(one: Pair, folder: Path) -> ssl.SSLContext:
    """Returns Python's SSL context for a server with this certificate. The certificate is written into `folder`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*one.write(folder))
    return context


@functools.cache
def authority() -> Authority:
    """Returns the authority that all tests of a run share."""
    return Authority()


@functools.cache
def pair() -> Pair:
    """Returns a certificate of the test authority for dns.test and 127.0.0.1."""
    return authority().pair("dns.test", "127.0.0.1")
