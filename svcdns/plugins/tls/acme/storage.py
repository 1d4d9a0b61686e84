"""The files of one ACME certificate in the storage folder: the account key, and the certificate with its key.

Rules:

1. The functions block. Call them in a thread.
2. Only the owner can read the files. Each file is replaced by renaming.
3. A private key is never part of an error text.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from svcdns.plugins.tls.options import Acme
from svcdns.process.atomic_file import replace_file
from svcdns.tls.contexts import server_context
from svcdns.tls.errors import TlsError
from svcdns.tls.material import MAX_OCTETS, Material, expiry, split

_KEY: Final = re.compile(rb"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?-----END \1PRIVATE KEY-----\n?", re.DOTALL)


class StorageError(TlsError):
    """Raised if a file of the storage cannot be read, written or used. The text has the path and the reason."""


class Storage:
    """The files of one certificate. Servers with the same `storage` share them."""

    def __init__(self, acme: Acme) -> None:
        """The files are in the subfolder of `storage` for the ACME server."""
        parts = urlsplit(acme.ca)
        server = re.sub(r"[^a-z0-9.]+", "-", f"{parts.netloc.rpartition('@')[2]}{parts.path}".lower()).strip("-.")
        self.folder = Path(acme.storage) / f"{server[:100]}-{_digest(acme.ca)}"
        name = re.sub(r"[^a-z0-9.-]", "_", acme.domains[0])[:100]
        self.path = self.folder / f"{name}-{_digest(acme.text)}.pem"
        self.account = self.folder / f"account-{_digest(acme.email)}.pem"

    def certificate(self) -> Material:
        """Returns the certificate and its key, or an empty result if there is no file. Raises StorageError."""
        content = _read(self.path)
        if not content:
            return Material()
        key = _KEY.search(content)
        material = Material(b"".join(f"{one}\n".encode() for one in split(content)), key.group() if key else b"")
        try:
            expiry(material.certificates)
            server_context(material)
        except TlsError as error:
            raise StorageError(f"{self.path} cannot be used: {error}") from None
        return material

    def save(self, material: Material) -> None:
        """Replaces the certificate and its key. Raises StorageError."""
        self._write(self.path, material.key.rstrip() + b"\n" + material.certificates.rstrip() + b"\n")

    def account_key(self) -> bytes:
        """Returns the PEM text of the account key; empty if there is no file. Raises StorageError."""
        return _read(self.account)

    def save_account_key(self, pem: bytes) -> None:
        """Writes the account key. Raises StorageError."""
        self._write(self.account, pem)

    def lock(self) -> int | None:
        """Locks the certificate, so that no other process obtains it.

        Returns a file descriptor, or None if another process has the lock.

        The lock ends when the descriptor is closed. Raises StorageError.
        """
        path = self.path.with_suffix(".lock")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {_reason(error)}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if isinstance(error, BlockingIOError):
                return None
            raise StorageError(f"cannot lock {path}: {_reason(error)}") from error
        return fd

    def _write(self, path: Path, content: bytes) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, content)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {_reason(error)}") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_OCTETS)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StorageError(f"cannot read {path}: {_reason(error)}") from error


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
