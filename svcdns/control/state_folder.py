"""The state folder: what outlives the process, so that a start does not depend on everything being right at that moment.

It holds the last Corefile that served, parsed, as one file that is written beside and renamed: a reader sees the old one or the new one.
What cannot be read is refused with a reason and never ends a start.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from svcdns import __version__
from svcdns.corefile.blocks import Corefile
from svcdns.errors import SvcdnsError
from svcdns.telemetry.counters import Family, MetricKind

FILE: Final = "corefile.msgpack"
FALLBACK: Final = Family(
    "svcdns_corefile_fallback", MetricKind.GAUGE, "1 while the last good Corefile serves because the present one cannot be used."
)


class StateError(SvcdnsError):
    """What the folder holds cannot be used."""


class KeptCorefile(msgspec.Struct, frozen=True, array_like=True):
    """A Corefile that served: `time` in Unix seconds, `version` of the program that wrote it, `path` where the file was."""

    version: str
    time: float
    corefile: Corefile


class StateFolder:
    """The folder named by `-state` or SVCDNS_STATE."""

    def __init__(self, folder: Path) -> None:
        """The folder is made when something is kept."""
        self._file = folder / FILE

    def keep(self, corefile: Corefile, now: float) -> None:
        """Keeps a Corefile that serves. Raises StateError."""
        body = msgspec.msgpack.encode(KeptCorefile(__version__, now, corefile))
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            _write(self._file, hashlib.sha256(body).digest() + body)
        except OSError as error:
            raise StateError(f"cannot write {self._file}: {(error.strerror or str(error)).lower()}") from error

    def last_good(self) -> KeptCorefile | None:
        """The Corefile that served last, None where none is kept. Raises StateError."""
        try:
            content = self._file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"cannot read {self._file}: {(error.strerror or str(error)).lower()}") from error
        digest, body = content[:32], content[32:]
        if hashlib.sha256(body).digest() != digest:
            raise StateError(f"{self._file} is damaged: its checksum is another")
        try:
            return msgspec.msgpack.decode(body, type=KeptCorefile)
        except msgspec.DecodeError as error:
            raise StateError(f"{self._file} was written by another version: {error}") from error


def _write(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
